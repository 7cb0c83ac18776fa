"""Which devices are of which type: how the catalogue finds them, against what they say of themselves.

Pure; used by pods and api. A machine's device has a model, its driver's own name; a cluster's has the resource name by
which it is counted, and the labels of its node. A type that is offered on both says how it is found in either.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from neuropod.runtimes.contract import Capability, Device


@dataclass(frozen=True, slots=True)
class Finder:
    """How the devices of a type are found; what is empty finds none."""

    model_pattern: str = ""  # a regular expression for the whole name, letters' case aside
    gpu_resource: str = ""  # `nvidia.com/gpu`
    node_selector: Mapping[str, str] = field(default_factory=dict)  # with it: labels that the node has

    def works_with(self, capabilities: Collection[Capability]) -> bool:
        """Tell whether a runtime of these abilities could find a device of this type at all."""
        return bool(self.gpu_resource if Capability.GPU_RESOURCES in capabilities else self.model_pattern)


NO_DEVICES = Finder()


def fits(finder: Finder, device: Device) -> bool:
    """Tell whether a device is one of the type that is found like this; a broken pattern fits nothing."""
    if device.resource:
        labels = device.labels
        return device.resource == finder.gpu_resource and all(
            labels.get(name) == value for name, value in finder.node_selector.items()
        )
    if not finder.model_pattern:
        return False
    try:
        return re.fullmatch(finder.model_pattern, device.model.strip(), re.IGNORECASE) is not None
    except re.error:
        return False
