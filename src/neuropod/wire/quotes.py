"""What a launch would meet, without launching."""

from neuropod.wire.pods import GpuHolder
from neuropod.wire.shapes import Answer, Price
from neuropod.words import Reason


class Obstacle(Answer):
    """What a launch would be refused with now."""

    code: str
    """The problem's code: `too_many_pods`, `name_taken`, `suspended`, `no_isolation`."""

    message: str


class AccountLimits(Answer):
    """How much of what its owner may have is used."""

    pods: int
    """Pods that they have, stopped ones included."""

    pods_most: int | None
    """As many they may have; null: as many as they like."""


class QuotedPrices(Answer):
    """What an hour costs, by part."""

    gpu_type: Price
    """The GPU type, all units, with its CPU cores and memory."""

    container_disk: Price
    volume: Price
    """While the volume exists, whether the pod runs or not."""

    pod: Price
    """What the pod costs while it runs: type and container disk. A launch accepts this price."""

    total: Price


class Quote(Answer):
    """The answer. Nothing is reserved by it."""

    launchable: bool
    """Whether a launch would be accepted: nothing stands against it."""

    obstacles: list[Obstacle]
    """All that stands against it."""

    fits: bool
    """Whether it would start at once."""

    ever_fits: bool
    """False: the machine or cluster does not have that much at all."""

    reason: Reason | None
    """Why it would wait, for programs."""

    message: str
    """The same for people."""

    place: int | None
    """Its place in the queue for its type; null when it would not wait."""

    holders: list[GpuHolder]
    """Who has the GPUs that it would wait for."""

    limits: AccountLimits
    prices: QuotedPrices
    gpu_type: str
    gpu_count: int
    gpus: int
    cpu_cores: int
    memory_gb: int
    container_disk_gb: int
    volume: str | None
    volume_gb: int | None
    volume_is_new: bool
    """Whether the launch would make it; else it is there already, and paid for already."""

    runtime: str
    """Which runtime would run it."""
