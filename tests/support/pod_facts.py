"""Facts of pods with every field filled, for tests of what decides over them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from neuropod.ids import IncarnationId, InstallationId, PodId, RuntimeId
from neuropod.pods.lifecycle import IncarnationFacts, PodFacts, Policy
from neuropod.runtimes.contract import Phase, Seen, WorkloadId
from neuropod.words import Reason, Want

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POD = PodId("pod_1")
POLICY = Policy()


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def in_(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def pod(incarnation: IncarnationFacts | None = None, **values: Any) -> PodFacts:
    defaults: dict[str, Any] = {
        "id": POD,
        "runtime_id": RuntimeId("fake:one"),
        "want": Want.RUNNING,
        "want_reason": Reason.REQUESTED,
        "want_at": ago(1000),
        "requested_at": ago(1000),
        "run_revision": 1,
        "gpu_type": "cpu",
        "memory_gb": 4,
        "container_disk_gb": 10,
        "incarnation": incarnation,
        "policy": POLICY,
    }
    return PodFacts(**(defaults | values))


def run(**values: Any) -> IncarnationFacts:
    defaults: dict[str, Any] = {
        "id": IncarnationId("inc_3"),
        "number": 3,
        "run_revision": 1,
        "opened_at": ago(500),
        "reason": Reason.SCHEDULING,
    }
    return IncarnationFacts(**(defaults | values))


def seen_run(**values: Any) -> IncarnationFacts:
    return run(**({"first_seen_at": ago(400), "last_seen_at": ago(10), "started_at": ago(390)} | values))


def ended_run(reason: Reason, **values: Any) -> IncarnationFacts:
    return seen_run(**({"reason": reason, "ended_at": ago(1), "phase": Phase.EXITED} | values))


def sight(phase: Phase, reason: Reason = Reason.READY, incarnation: int = 3, **values: Any) -> Seen:
    return Seen(
        id=WorkloadId(InstallationId("npd_1"), POD, incarnation),
        identity="boot 1",
        phase=phase,
        reason=reason,
        **values,
    )
