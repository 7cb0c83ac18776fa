"""The Kubernetes runtime, on a real cluster, keeps the rules that every runtime keeps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.runtimes.contract import Workload
from neuropod.runtimes.kubernetes import reaching
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.settings import ClusterSettings
from runtimes.conformance import Conformance, Kit
from runtimes.conformance.reaching import ReachRules
from support.cluster_pods import BUSYBOX, DEBIAN, PORT, SERVE, SLEEP, cluster_settings, opened, shell


class ClusterKit(Kit):
    patience_seconds = 90.0
    held_mib = 128  # three programs and their connections stand between us and a command (docs/decisions)

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
        # A kubelet looks once a second: of what ended before it was seen to run no line is told while it runs.
        return self._shell(f'i=0; while [ $i -lt {lines} ]; do echo "line $i"; sleep 0.6; i=$((i+1)); done')

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


class TestPortsThroughTheApiServer(ReachRules):
    """The rules of ports and watches where pods have no route from here: as on Minikube, with a kubeconfig alone."""

    @pytest.fixture
    async def kit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterKit]:
        # That a port is shut comes by the API server and a node, which may take longer on a busy machine.
        monkeypatch.setattr(reaching, "_REFUSAL_SECONDS", 3.0)
        async with opened_kit(tmp_path / "data", cluster_settings(reach="portforward", gateway_networks=())) as kit:
            yield kit
