"""What a pod's status says of a full volume, pure. Called by showing."""

from dataclasses import replace

from neuropod.pods.status import Shown
from neuropod.volumes.records import VolumeRow
from neuropod.words import Status

_TOLD = frozenset({Status.STARTING, Status.RUNNING, Status.STOPPED, Status.FINISHED, Status.FAILED})


def with_full_volume(shown: Shown, volume: VolumeRow | None) -> Shown:
    """Say after the status's own sentence that the pod's volume is full, and what to do."""
    if volume is None or volume.full_since is None or shown.status not in _TOLD:
        return shown
    told = f"Its volume {volume.name} is full ({volume.size_gb} GB): delete something in it, or make it larger."
    return replace(shown, message=f"{shown.message} {told}")
