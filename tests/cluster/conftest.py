"""What all tests on a real cluster share: they run as the server's account, with the rights of deploy/."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster_account import VARIABLE, make_account


@pytest.fixture(scope="session", autouse=True)
def account_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of the server's account; support.cluster_pods gives it to runtimes."""
    path = asyncio.run(make_account(tmp_path_factory.mktemp("account")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(path))
        yield path
