"""Pods on recipes with packages: prepared with progress, run on a venv of their own; a stop ends a build at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Phase
from neuropod.words import Reason
from runtimes.local.pods import a_workload, opened, printed, until
from support.package_index import PackageIndex

pytestmark = pytest.mark.root

HELLO = ("hello==1.0",)


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    index = PackageIndex()
    yield index
    index.close()


async def test_a_recipe_is_prepared_once_and_its_programs_run_on_the_pods_own_venv(tmp_path: Path, index: PackageIndex):
    async with opened(tmp_path / "data", package_index_url=index.url) as runtime:
        look = "hello; python -c 'import hello, os, sys; print(sys.prefix, os.access(sys.prefix, os.W_OK), hello.__file__)'"
        first = a_workload("bash", "-c", look, packages=HELLO)
        second = a_workload("hello", packages=HELLO)

        lines = await printed(runtime, first)
        downloads = index.downloads("hello-1.0-py3-none-any.whl")
        again = await printed(runtime, second)

        assert lines[0] == "hello"
        assert lines[1].startswith("/opt/neuropod/venv True /opt/neuropod/env/")
        assert again == ["hello"]
        assert index.downloads("hello-1.0-py3-none-any.whl") == downloads


async def test_a_build_is_seen_as_preparing_and_ends_with_a_stop(tmp_path: Path, index: PackageIndex):
    index.hold()
    async with opened(tmp_path / "data", package_index_url=index.url) as runtime:
        workload = a_workload("hello", packages=HELLO)
        await runtime.ensure(workload)
        async with asyncio.timeout(20):
            while (seen := await runtime.observe(workload.id)) is None or seen.progress is None:
                await asyncio.sleep(0.02)

        await runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        ended = await until(runtime, workload.id, Phase.EXITED, seconds=5)

        assert (seen.phase, seen.reason) == (Phase.PENDING, Reason.PREPARING)
        assert seen.progress.step
        assert (ended.reason, ended.exit_code, ended.started_at) == (Reason.REQUESTED, None, None)
        index.release()


async def test_a_package_that_is_not_there_fails_with_what_the_builder_said(tmp_path: Path, index: PackageIndex):
    async with opened(tmp_path / "data", package_index_url=index.url) as runtime:
        workload = a_workload("x", packages=("no-such-thing==1.0",))
        await runtime.ensure(workload)

        ended = await until(runtime, workload.id, Phase.EXITED)

        assert ended.reason is Reason.PREPARE_FAILED
        assert "no-such-thing" in ended.message


async def test_a_build_goes_on_while_the_server_is_away(tmp_path: Path, index: PackageIndex):
    index.hold()
    workload = a_workload("hello", packages=HELLO)
    async with opened(tmp_path / "data", package_index_url=index.url, keep=True) as first:
        await first.ensure(workload)
        async with asyncio.timeout(20):
            while (seen := await first.observe(workload.id)) is None or seen.progress is None:
                await asyncio.sleep(0.02)

    index.release()
    async with opened(tmp_path / "data", package_index_url=index.url) as second:
        ended = await until(second, workload.id, Phase.EXITED)

        assert (ended.reason, ended.exit_code) == (Reason.EXITED, 0)
        assert ended.identity == seen.identity
