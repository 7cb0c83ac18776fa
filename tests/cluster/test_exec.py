"""Commands in pods whose image has no shell: what is there runs, what is not is said."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from neuropod.ids import InstallationId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.runtimes.contract import NotReadyError, NotSupportedError, Phase, Workload
from neuropod.runtimes.execution import ExecRequest, OutputStream, TerminalSize
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from support.cluster_pods import PORT, SLEEP, opened, shell
from support.cluster_waits import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BARE = "neuropod.test/http:1"  # one program, /http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bare(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[KubernetesRuntime, Workload]]:
    installation = InstallationId(new_id("ins"))
    async with opened(tmp_path_factory.mktemp("exec"), installation) as runtime:
        made = shell(SLEEP, installation=installation, owner=UserId(new_id("usr")), image=BARE, port=PORT,
                     env={"PORT": str(PORT)})  # fmt: skip
        workload = replace(made, command=None)  # ready once it has its port, which a second one then has not
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)
        yield runtime, workload


def asked(*command: str, terminal: bool = False) -> ExecRequest:
    return ExecRequest(command, 5, TerminalSize(24, 80) if terminal else None, {"TERM": "vt100"} if terminal else {})


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_login_shell_is_refused_with_what_to_do(bare: tuple[KubernetesRuntime, Workload], terminal: bool):
    runtime, workload = bare

    with pytest.raises(NotSupportedError, match=r"has no shell.*name a program"):
        await runtime.exec(workload.id, asked(terminal=terminal))


async def test_a_program_that_is_there_runs_and_tells_its_end(bare: tuple[KubernetesRuntime, Workload]):
    runtime, workload = bare
    second = await runtime.exec(workload.id, asked("/http"))  # its port is taken: it says so and ends
    said = b""
    while (chunk := await second.read()) is not None:
        said += chunk.data
    code = await second.wait()
    await second.aclose()

    assert (code, b"address already in use" in said) == (1, True)


async def test_a_program_that_is_not_there_is_said_in_a_sentence(bare: tuple[KubernetesRuntime, Workload]):
    runtime, workload = bare
    missing = await runtime.exec(workload.id, asked("nowhere", "-l"))
    chunk = await missing.read()
    assert chunk is not None
    rest = await missing.read()
    code = await missing.wait()
    await missing.aclose()

    assert (chunk.stream, rest, code) == (OutputStream.STDERR, None, 127)
    assert chunk.data == b"nowhere: no such program in this image, which has no shell either\n"


async def test_one_that_ended_meanwhile_has_not_lost_its_shell(tmp_path: Path):
    installation = InstallationId(new_id("ins"))
    async with opened(tmp_path, installation) as runtime:
        workload = shell("exit 0", installation=installation, owner=UserId(new_id("usr")))
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.EXITED)

        with pytest.raises(NotReadyError):
            await runtime.exec(workload.id, asked())
