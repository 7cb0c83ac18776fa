"""The shipped recipes, built from the real index: part of `make test-long`, and of every new lock."""

from collections.abc import Iterator

import pytest

from neuropod.runtimes.local.environments import ENVIRONMENT_PATH, host_ca_bundle, host_index_url
from neuropod.templates.starters import starters
from support.package_index import Builder, PackageIndex, modes

RECIPES = {starter.snapshot.name: starter.snapshot.recipe for starter in starters() if starter.snapshot.recipe}
IMPORTS = {
    "jupyterlab": "jupyterlab.labapp, ipykernel.kernelapp, jupyter_server_terminals",
    "jupyterlab-scientific": "jupyterlab.labapp, ipykernel.kernelapp, numpy, pandas, matplotlib.pyplot, sklearn",
    "python-web": "http.server",
}


@pytest.fixture
def strongest() -> Iterator[Builder]:
    index = PackageIndex()
    builder = Builder(modes()[0], index)
    yield builder
    builder.close()
    index.close()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RECIPES)
def test_a_starters_list_can_be_built_is_complete_and_imports(name: str, strongest: Builder) -> None:
    plan = strongest.plan(
        *RECIPES[name].packages, index_url=host_index_url(), ca_bundle=host_ca_bundle(), timeout_seconds=500
    )

    environment = strongest.build(plan)

    python = f"{environment if strongest.mode == 'none' else ENVIRONMENT_PATH}/bin/python"
    assert strongest.inside(environment, python, "-m", "pip", "check") == "No broken requirements found.\n"
    assert strongest.inside(environment, python, "-c", f"import {IMPORTS[name]}; print('fine')") == "fine\n"
    installed = strongest.inside(environment, python, "-m", "pip", "list", "--format=freeze").split()
    assert len(installed) == len(RECIPES[name].packages)  # nothing that the list does not name
