"""From a shim's state file to what the contract calls Seen. Pure; called by `runtime`."""

from datetime import UTC, datetime

from neuropod.ids import InstallationId, PodId
from neuropod.runtimes.contract import Phase, Progress, Seen, WorkloadId
from neuropod.runtimes.local.state import State
from neuropod.words import Reason


def seen_of(state: State, *, shim_lives: bool) -> Seen | None:
    """Return what a state means, given whether the shim that wrote it still runs.

    A shim that died before it took its plan has started nothing: there is nothing, and `ensure` may come again. One
    that died later took its pod with it, and nobody knows how that ended.
    """
    if not state.taken and not shim_lives:
        return None
    workload_id = WorkloadId(InstallationId(state.installation), PodId(state.pod), state.incarnation)
    phase = Phase(state.phase)
    if phase is not Phase.EXITED and not shim_lives:
        return Seen(
            workload_id,
            state.identity,
            Phase.EXITED,
            Reason.LOST,
            "It ended without a word: the machine was restarted, or its shim was killed.",
            started_at=_time(state.started_at),
            ready_at=_time(state.ready_at),
            stopping_at=_time(state.stopping_at),
        )
    return Seen(
        workload_id,
        state.identity,
        phase,
        Reason(state.reason),
        state.message,
        progress=None if state.progress is None else Progress(**state.progress),
        address=state.address,
        exit_code=state.exit_code,
        started_at=_time(state.started_at),
        ready_at=_time(state.ready_at),
        stopping_at=_time(state.stopping_at),
        finished_at=_time(state.finished_at),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
