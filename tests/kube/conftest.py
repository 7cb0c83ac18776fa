import pytest

from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from support.kube import fake_api


@pytest.fixture
async def api(tmp_path):
    async with fake_api(tmp_path) as server:
        yield server


@pytest.fixture
async def client(api):
    async with KubeClient(api.access(), SystemClock(), timeout_seconds=8) as made:
        yield made
