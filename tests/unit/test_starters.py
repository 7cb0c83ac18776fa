"""What Neuropod ships with: read, complete, and runnable as far as can be told without running it."""

import re

import pytest

from neuropod.catalogue.starters import starter_types
from neuropod.kit.money import micros
from neuropod.runtimes.local.environments.plan import locked_list
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.templates.starters import starter_from, starters
from neuropod.words import JupyterMode

STARTERS = {starter.snapshot.name: starter for starter in starters()}
WITH_RECIPE = [name for name, starter in STARTERS.items() if starter.snapshot.recipe is not None]


def test_the_shipped_templates_are_those_that_the_documentation_names():
    assert sorted(STARTERS) == ["jupyterlab", "jupyterlab-scientific", "python-web", "pytorch", "ubuntu"]
    assert sorted(WITH_RECIPE) == ["jupyterlab", "jupyterlab-scientific", "python-web"]


def test_the_shipped_types_have_the_starting_prices():
    prices = {columns["name"]: columns["price_micros_per_hour"] for columns in starter_types()}

    assert prices == {
        "cpu": micros("0.30"),
        "rtx-4050": micros("0.50"),
        "rtx-4070": micros("1.00"),
        "rtx-4090": micros("2.50"),
    }


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_fits_the_catalogue_and_the_limits(name):
    snapshot = STARTERS[name].snapshot

    assert re.fullmatch(r"[a-z][a-z0-9-]{0,39}", snapshot.name)
    assert snapshot.gpu_type in {columns["name"] for columns in starter_types()}
    assert 1 <= snapshot.container_disk_gb <= 100
    assert snapshot.volume_gb is None or 1 <= snapshot.volume_gb <= 150
    assert snapshot.image is not None or snapshot.recipe is not None
    assert snapshot.ready_port is None or snapshot.ready_port in {port.port for port in snapshot.ports}
    assert snapshot.shared
    assert snapshot.author_id is None
    assert TemplateSnapshot.from_json(snapshot.to_json()) == snapshot


@pytest.mark.parametrize("name", WITH_RECIPE)
def test_a_starters_package_list_is_one_that_can_be_built_and_brings_its_own_pip(name):
    recipe = STARTERS[name].snapshot.recipe

    assert sorted(locked_list(recipe.packages)) == sorted(recipe.packages)


@pytest.mark.parametrize("name", [name for name in STARTERS if STARTERS[name].snapshot.jupyter is not JupyterMode.OFF])
def test_jupyter_is_reached_as_it_is_behind_the_gateway(name):
    command = STARTERS[name].snapshot.recipe.command

    assert "--ServerApp.allow_remote_access=True" in command
    assert "--ip=0.0.0.0" in command
    assert "--port=8888" in command
    assert not [word for word in command if "base_url" in word or "allow_origin" in word or "token" in word]


def test_a_starter_with_an_unknown_key_is_refused():
    values = {
        "name": "x",
        "title": "X",
        "description": "",
        "readme": "",
        "gpu_type": "cpu",
        "container_disk_gb": 1,
        "ready_when": "process",
    }

    with pytest.raises(ValueError, match="imgae"):
        starter_from({**values, "imgae": "ubuntu"})
