"""Starters belong to the program; templates are found within sight; a pod's snapshot is a value."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from neuropod.accounts.access import MACHINE
from neuropod.db.engine import Database
from neuropod.kit.errors import NotFoundError
from neuropod.templates.service import list_templates, load_starters, show_template, snapshot_of
from neuropod.templates.starters import Starter, starters
from support.rows import NOW

LATER = NOW + timedelta(days=1)


async def _load(database: Database, *, now=NOW, shipped: list[Starter] | None = None) -> None:
    async with database.write() as session:
        await load_starters(session, now=now, shipped=shipped)


async def test_the_first_start_brings_the_shipped_templates(database):
    await _load(database)

    async with database.read() as session:
        page = await list_templates(session, actor=MACHINE)
        lab = await show_template(session, "jupyterlab", actor=MACHINE)
        by_id = await show_template(session, lab.id, actor=MACHINE)
    assert [row.name for row in page.items] == [
        "jupyterlab",
        "jupyterlab-scientific",
        "python-web",
        "pytorch",
        "ubuntu",
    ]
    shipped = {starter.snapshot.name: starter.snapshot for starter in starters()}
    assert {row.name: snapshot_of(row) for row in page.items} == shipped
    assert by_id.id == lab.id


async def test_a_second_start_changes_nothing(database):
    await _load(database)

    await _load(database, now=LATER)

    async with database.read() as session:
        page = await list_templates(session, actor=MACHINE)
    assert {row.updated_at for row in page.items} == {NOW}


async def test_an_upgrade_brings_new_lists_under_the_same_id_and_takes_away_what_is_shipped_no_longer(database):
    await _load(database)
    async with database.read() as session:
        before = await show_template(session, "python-web", actor=MACHINE)
    shipped = [starter for starter in starters() if starter.snapshot.name == "python-web"]
    newer = replace(shipped[0], snapshot=replace(shipped[0].snapshot, container_disk_gb=7))

    await _load(database, now=LATER, shipped=[newer])

    async with database.read() as session:
        page = await list_templates(session, actor=MACHINE)
    (row,) = page.items
    assert row.id == before.id
    assert snapshot_of(row).container_disk_gb == 7
    assert (row.created_at, row.updated_at) == (NOW, LATER)


async def test_two_servers_that_start_at_once_leave_one_of_each(database):
    await asyncio.gather(*(_load(database) for _ in range(4)))

    async with database.read() as session:
        page = await list_templates(session, actor=MACHINE)
    assert len(page.items) == 5


async def test_what_is_not_there_is_not_found(database):
    async with database.read() as session:
        with pytest.raises(NotFoundError):
            await show_template(session, "nothing", actor=MACHINE)
