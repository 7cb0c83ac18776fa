"""`neuropod admin …`: what the owner of the machine may do without signing in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from neuropod.kit.clock import SystemClock
from neuropod.kit.terminal.commands import Call, Group, choice_of
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import local_time
from neuropod.operate.asked import read_settings
from neuropod.operate.machine import Acts, acts_on
from neuropod.wire.machine import SignInLinkMade
from neuropod.words import Role

T = TypeVar("T")

_EPOCH_COLUMNS = (Column("POD"), Column("RUN", right=True), Column("PHASE"), Column("STARTED"), Column("RUNTIME"))


def _done(act: Callable[[Acts], Awaitable[T]]) -> T:
    """Run one act, by the running server or without one."""
    settings = read_settings()

    async def run() -> T:
        async with acts_on(settings, SystemClock()) as acts:
            return await act(acts)

    return asyncio.run(run())


@click.group("admin", cls=Group)
def admin() -> None:
    """Sign-in links and people, for whoever owns this machine."""


@admin.command(
    "sign-in-link",
    examples=["neuropod admin sign-in-link", "neuropod admin sign-in-link ada@example.org"],
)
@click.argument("email", required=False)
@click.pass_obj
def sign_in_link(call: Call, email: str | None) -> None:
    """Print a one-time link that signs somebody in; without EMAIL the first administrator.

    Earlier links of the same person stop working.
    """
    made = _done(lambda acts: acts.sign_in_link(email))
    if call.screen.json:
        call.screen.data(made.model_dump(mode="json"))
        return
    _say_link(call, made)


def _say_link(call: Call, made: SignInLinkMade) -> None:
    call.screen.say(made.url)
    call.screen.note(f"Signs {made.email} in, once, until {local_time(made.expires_at)}.")


@admin.command(
    "create-user",
    examples=["neuropod admin create-user ada@example.org", "neuropod admin create-user root@example.org --role admin"],
)
@click.argument("email")
@click.option("--role", type=choice_of(Role), default=Role.CLIENT.value, show_default=True, help="What they may do.")
@click.option("--name", help="Their name; default: what stands before the @.")
@click.pass_obj
def create_user(call: Call, email: str, role: str, name: str | None) -> None:
    """Make a person, and print the link with which they sign in for the first time."""
    made = _done(lambda acts: acts.create_user(email, Role(role), name))
    if call.screen.json:
        call.screen.data(made.model_dump(mode="json"))
        return
    call.screen.note(f"Made {made.email} ({made.role}). Give them this link:")
    _say_link(call, made.link)


@admin.command("show-epoch", examples=["neuropod admin show-epoch", "neuropod admin show-epoch --json"])
@click.pass_obj
def show_epoch(call: Call) -> None:
    """After a restore: list what runs and belongs to no row of the restored database."""
    found = _done(lambda acts: acts.show_epoch())
    if call.screen.json:
        call.screen.data(found.model_dump(mode="json"))
        return
    state = "confirmed" if found.confirmed else "not confirmed: nothing is swept"
    call.screen.say(f"Epoch {found.epoch}, {state}.")
    for runtime in found.silent:
        call.screen.note(f"{runtime} gives no answer; what is on it is not shown.")
    if not found.unknown:
        call.screen.note("Nothing stands without a row.")
        return
    rows = [
        [one.pod, str(one.incarnation), one.phase, local_time(one.started_at), one.runtime] for one in found.unknown
    ]
    call.screen.table(_EPOCH_COLUMNS, rows)
    if not found.confirmed:
        call.screen.note(f"Let these be removed: {call.program} admin confirm-epoch")


@admin.command("confirm-epoch", examples=["neuropod admin confirm-epoch"])
@click.pass_obj
def confirm_epoch(call: Call) -> None:
    """After a restore: confirm that workloads without a row may be swept away again.

    A restore brings back an older database; pods that were made since have no row in it. Look at them first
    (`neuropod admin show-epoch`): once this is confirmed they are removed.
    """
    made = _done(lambda acts: acts.confirm_epoch())
    if call.screen.json:
        call.screen.data(made.model_dump(mode="json"))
    elif made.changed:
        call.screen.say(f"Confirmed: epoch {made.epoch}. What has no row is swept from now on.")
    else:
        call.screen.say(f"Nothing to confirm: epoch {made.epoch} was confirmed before.")
