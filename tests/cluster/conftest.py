"""What tests on a real cluster share: they run as the server's account, with the rights of deploy/."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from neuropod.ids import InstallationId
from neuropod.kit.identifiers import new_id
from neuropod.kube.client import KubeClient
from support.cluster_account import VARIABLE, admin_client, make_account

# Of a test that names no other: what takes half a minute here takes several times that on a busy machine.
_TIMEOUT_SECONDS = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests the time that a cluster needs which shares the machine's cores with them."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def account_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of the server's account; support.cluster_pods gives it to runtimes."""
    path = asyncio.run(make_account(tmp_path_factory.mktemp("account")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(path))
        yield path


@pytest.fixture
def installation() -> InstallationId:
    """An installation of the test's own."""
    return InstallationId(new_id("ins"))


@pytest.fixture
async def admin() -> AsyncIterator[KubeClient]:
    """The cluster as its administrator sees it, for what somebody else does there and what is truly there."""
    async with admin_client() as client:
        yield client
