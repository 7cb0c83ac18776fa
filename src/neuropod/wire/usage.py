"""What pods use."""

from datetime import datetime

from neuropod.wire.shapes import Answer


class UsagePoint(Answer):
    """What a pod used at a time; null: not known."""

    at: datetime
    cpu_cores: float | None
    """Cores that were busy, on average since the measurement before."""

    memory_bytes: int | None
    """Without what the kernel would give back at once."""

    container_disk_bytes: int | None
    volume_bytes: int | None
    gpu_percent: int | None
    """Of the time in which its GPUs worked, on average."""

    gpu_memory_bytes: int | None


class UsageSize(Answer):
    """What the pod may use, in the same units."""

    cpu_cores: int
    memory_bytes: int
    container_disk_bytes: int
    volume_bytes: int | None


class PodUsage(Answer):
    """What a pod uses now, and used in the last hours."""

    pod_id: str
    size: UsageSize
    now: UsagePoint | None
    """Measured for this answer, or a minute ago where its machine is another server's; null while it does not run."""

    step_seconds: int
    """How far apart points are; where nothing ran, or no server watched, there are none."""

    points: list[UsagePoint]
    """The oldest first."""
