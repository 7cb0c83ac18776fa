"""What a runtime is asked to run, read as the loop of pods reads it."""

from neuropod.db.engine import Database
from neuropod.ids import PodId
from neuropod.pods.service import Pods
from neuropod.reconcile.sharing import SharedRows
from neuropod.runtimes.contract import Workload
from support.clocks import ManualClock


async def workload_of(database: Database, pods: Pods, pod_id: str, incarnation: int = 1) -> Workload:
    """Return the workload of an incarnation; raises what keeps it from being run."""
    rows = SharedRows(database, pods, ManualClock())
    try:
        return await rows.workload(PodId(pod_id), incarnation)
    finally:
        await rows.aclose()
