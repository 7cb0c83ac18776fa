"""The Kubernetes runtime, on a real cluster, keeps the rules that every runtime keeps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.runtimes.contract import Workload
from neuropod.runtimes.execution import Execution
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.settings import ClusterSettings
from runtimes.conformance import Conformance, Kit
from runtimes.conformance.commands import execution
from runtimes.conformance.kit import started
from runtimes.conformance.reaching import ReachRules
from support.cluster_pods import BUSYBOX, DEBIAN, PORT, SERVE, SLEEP, cluster_settings, opened, shell

MIB = 1 << 20


class ClusterKit(Kit):
    patience_seconds = 90.0

    def __init__(
        self, runtime: KubernetesRuntime, data_dir: Path, installation: InstallationId, settings: ClusterSettings
    ) -> None:
        self.runtime = runtime
        self._data_dir = data_dir
        self._installation = installation
        self._settings = settings
        self._owner = UserId(f"usr_of_{installation}")

    def _shell(
        self,
        script: str,
        pod: PodId | None = None,
        incarnation: int = 1,
        port: int | None = None,
        image: str = BUSYBOX,
    ) -> Workload:
        return shell(
            script,
            installation=self._installation,
            owner=self._owner,
            pod=pod,
            incarnation=incarnation,
            port=port,
            image=image,
        )

    def runs(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        return self._shell(SLEEP, pod, incarnation, image=DEBIAN)

    def deaf(self) -> Workload:
        return self._shell(f'trap "" TERM; {SERVE}', port=PORT)

    def exits(self, code: int, pod: PodId | None = None) -> Workload:
        return self._shell(f"exit {code}", pod)

    def prints(self, lines: int) -> Workload:
        return self._shell(f'i=0; while [ $i -lt {lines} ]; do echo "line $i"; i=$((i+1)); done')

    def talks(self, lines: int) -> Workload:
        return self._shell(f'i=0; while [ $i -lt {lines} ]; do echo "line $i"; sleep 0.2; i=$((i+1)); done')

    def serves(self, pod: PodId | None = None, incarnation: int = 1) -> Workload:
        return self._shell(SERVE, pod, incarnation, port=PORT)

    def slow(self) -> Workload:
        return self._shell(f"sleep 1; {SERVE}", port=PORT)

    def polite(self) -> Workload:
        return self._shell(f'trap "sleep 0.5; exit 0" TERM; ({SERVE}) & wait', port=PORT)

    def crashes(self) -> Workload:
        return self._shell("kill -11 $$")

    def never_ready(self) -> Workload:
        return self._shell(SLEEP, port=PORT)

    @asynccontextmanager
    async def _another(self, installation: InstallationId, *, keep: bool) -> AsyncIterator[Kit]:
        async with opened(self._data_dir, installation, self._settings, keep=keep) as runtime:
            yield ClusterKit(runtime, self._data_dir, installation, self._settings)

    @asynccontextmanager
    async def of_another_installation(self) -> AsyncIterator[Kit]:
        async with self._another(InstallationId(new_id("ins")), keep=False) as kit:
            yield kit

    @asynccontextmanager
    async def reopened(self) -> AsyncIterator[Kit]:
        await self.runtime.aclose()
        async with self._another(self._installation, keep=True) as kit:
            yield kit

    @asynccontextmanager
    async def another_server(self) -> AsyncIterator[Kit]:
        async with self._another(self._installation, keep=True) as kit:
            yield kit


@asynccontextmanager
async def opened_kit(data_dir: Path, settings: ClusterSettings) -> AsyncIterator[ClusterKit]:
    installation = InstallationId(new_id("ins"))
    async with opened(data_dir, installation, settings) as runtime:
        yield ClusterKit(runtime, data_dir, installation, settings)


class TestKubernetes(Conformance):
    """The rules that every runtime keeps, with ports that are dialled."""

    @pytest.fixture
    async def kit(self, tmp_path: Path) -> AsyncIterator[ClusterKit]:
        async with opened_kit(tmp_path / "data", cluster_settings()) as kit:
            yield kit

    async def test_what_nobody_reads_waits_and_what_nobody_takes_too(self, kit: Kit):
        """In place of the suite's: three programs and their connections stand between us and a command's input.

        What they hold is bounded, but by tens of MiB, where other runtimes have a pipe (docs/decisions).
        """
        workload = kit.runs()
        await started(kit, workload)

        async with execution(kit, workload.id, "yes") as unread, execution(kit, workload.id, "sleep", "100") as deaf:
            given = await _give_until_it_waits(deaf, 256 * MIB)
            first = await unread.read()

        assert given < 128 * MIB
        assert first is not None
        assert first.data.startswith(b"y\ny\n")


async def _give_until_it_waits(command: Execution, most: int) -> int:
    given = 0
    while given < most:
        try:
            await asyncio.wait_for(command.write(bytes(MIB)), 2)
        except TimeoutError:
            break
        given += MIB
    return given


class TestPortsThroughTheApiServer(ReachRules):
    """The rules of ports and watches where pods have no route from here: as on Minikube, with a kubeconfig alone."""

    @pytest.fixture
    async def kit(self, tmp_path: Path) -> AsyncIterator[ClusterKit]:
        async with opened_kit(tmp_path / "data", cluster_settings(reach="portforward", gateway_networks=())) as kit:
            yield kit
