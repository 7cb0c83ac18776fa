"""What befell GPUs that pods hold: what the runtime has against what was given. Pure; used by the devices loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuropod.ids import IncarnationId, PodId, RuntimeId, UserId
from neuropod.runtimes.contract import Capacity


@dataclass(frozen=True, slots=True)
class Held:
    """A GPU that an incarnation of a pod has."""

    runtime_id: RuntimeId
    device: str
    gpu_type: str  # as which it was given
    pod_id: PodId
    pod_name: str
    owner_id: UserId
    owner_email: str
    incarnation_id: IncarnationId
    number: int
    trouble: str  # what the row of the incarnation says of it


def troubles(held: Sequence[Held], capacities: Mapping[RuntimeId, Capacity]) -> dict[IncarnationId, tuple[Held, str]]:
    """Return the incarnations whose GPUs are otherwise than their rows say, each with the sentence that is true now.

    Empty: all are well again. A runtime that is not in `capacities` gave no answer: nothing is known of its GPUs.
    """
    there = {
        (runtime_id, device.name): device.trouble
        for runtime_id, capacity in capacities.items()
        for device in capacity.devices
    }
    now: dict[IncarnationId, tuple[Held, list[str]]] = {}
    for one in held:
        if one.runtime_id in capacities:
            _, sentences = now.setdefault(one.incarnation_id, (one, []))
            trouble = there.get((one.runtime_id, one.device), "it is not on its machine any more")
            if trouble:
                sentences.append(f"its GPU {one.device} is lost to it: {trouble}")
    return {
        incarnation_id: (one, "; ".join(sentences))
        for incarnation_id, (one, sentences) in now.items()
        if "; ".join(sentences) != one.trouble
    }
