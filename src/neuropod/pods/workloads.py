"""What runtimes are asked to run for incarnations: their rows, disks, devices, secrets and credentials, put together.

Made once by `service`; called by the loop for what it ensures, and by whoever needs what a runtime knows a run by. What
a workload is made of its parts is decided in `workload`, which is pure.
"""

from collections.abc import Mapping, Sequence

from neuropod.db.engine import ReadSession
from neuropod.ids import InstallationId, PodId, RuntimeId, UserId
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.pods import store
from neuropod.pods.records import PodRow
from neuropod.pods.registries.pulling import pulls_of
from neuropod.pods.sealing import Sealing
from neuropod.pods.secrets.resolving import resolve
from neuropod.pods.workload import PLAIN_PULL, Attached, Lacking, Secrets, recipe_of, workload_of
from neuropod.runtimes.contract import Capability, Workload, WorkloadId
from neuropod.runtimes.opened import Runtimes
from neuropod.templates.snapshot import TemplateSnapshot


class Workloads:
    """The workloads of one installation's pods."""

    def __init__(
        self, installation_id: InstallationId, box: SecretBox, runtimes: Runtimes, *, stop_grace_seconds: int
    ) -> None:
        self._installation_id = installation_id
        self._box = box
        self._sealing = Sealing(box)
        self._runtimes = runtimes
        self._stop_grace_seconds = stop_grace_seconds

    def id_of(self, pod_id: PodId, incarnation: int) -> WorkloadId:
        """Return what a runtime knows an incarnation by."""
        return WorkloadId(self._installation_id, pod_id, incarnation)

    async def of(
        self, session: ReadSession, runs: Sequence[tuple[PodId, int]]
    ) -> dict[tuple[PodId, int], Workload | Lacking]:
        """Return what the runtime is asked to run for incarnations (pod and number), in five queries at most."""
        found = await store.pods_to_run(session, {pod_id for pod_id, _ in runs})
        with_gpus = [run for run in runs if run[0] in found and found[run[0]].pod.gpus]
        devices = await store.devices_of(session, with_gpus)
        given = await resolve(session, self._box, [one.pod for one in found.values()])
        images = {pod_id: self._pulled(one.pod) for pod_id, one in found.items()}
        wanted = {pod_id: (UserId(found[pod_id].pod.owner_id), image) for pod_id, image in images.items() if image}
        pulls = await pulls_of(session, self._box, wanted)
        workloads: dict[tuple[PodId, int], Workload | Lacking] = {}
        for run in runs:
            if run[0] not in found:
                continue
            named = given.get(run[0], {})
            if isinstance(named, Lacking):
                workloads[run] = named
                continue
            one, pull = found[run[0]], pulls.get(run[0], PLAIN_PULL)
            attached = Attached(one.owner_hash, one.volume, one.ports, devices.get(run, ()), one.finder, pull)
            workloads[run] = self._workload(one.pod, attached, run[1], named)
        return workloads

    def _workload(self, row: PodRow, attached: Attached, incarnation: int, named: Mapping[str, Secret]) -> Workload:
        return workload_of(
            self.id_of(PodId(row.id), incarnation),
            row,
            attached,
            Secrets({**self._sealing.open_env(row), **named}, self._sealing.platform_token(row)),
            runs_recipes=self._runs_recipes(row),
            stop_grace_seconds=self._stop_grace_seconds,
        )

    def _runs_recipes(self, row: PodRow) -> bool:
        runtime = self._runtimes.get(RuntimeId(row.runtime_id))
        return runtime is not None and Capability.RECIPES in runtime.capabilities

    def _pulled(self, row: PodRow) -> str | None:
        """Return the image that a runtime would pull for a pod; None where it runs a recipe."""
        if self._runs_recipes(row) and recipe_of(row.image, TemplateSnapshot.from_json(row.template)) is not None:
            return None
        return row.image
