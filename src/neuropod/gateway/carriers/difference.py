"""What turns the objects that stand in a cluster into those that are wanted. Pure; called by reconcile.carried."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from neuropod.gateway.carriers.objects import Ref
from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, MIDDLEWARES, SERVICES, Kind
from neuropod.kube.objects import Object, contains
from neuropod.kube.shapes import Metadata, Shape

# What is asked stands before what asks for it; what leads to a port goes first and comes last.
APPLY_ORDER = (MIDDLEWARES, ENDPOINT_SLICES, SERVICES, INGRESSES)
REMOVE_ORDER = tuple(reversed(APPLY_ORDER))
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Standing(Shape, frozen=True):
    """An object of ours as the cluster has it: all that we ever say of one."""

    metadata: Metadata
    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    address_type: str = ""
    endpoints: list[Any] | None = None
    ports: list[Any] | None = None

    @property
    def content(self) -> Object:
        """It, in the words of what is wanted."""
        return {
            "metadata": {"labels": self.metadata.labels, "annotations": self.metadata.annotations},
            "spec": self.spec,
            "addressType": self.address_type,
            "endpoints": self.endpoints or [],
            "ports": self.ports or [],
        }


@dataclass(slots=True)
class Applied:
    """What was applied lately, and as which version it stood afterwards.

    A cluster whose Middlewares are older than ours drops what it does not know; that is not applied again and again.
    """

    _by_ref: dict[Ref, tuple[Object, str]] = field(default_factory=dict)

    def note(self, ref: Ref, wanted: Object, resource_version: str) -> None:
        """Learn that an object was applied."""
        self._by_ref[ref] = (wanted, resource_version)

    def forget(self, ref: Ref) -> None:
        """Learn that it is gone."""
        self._by_ref.pop(ref, None)

    def stands(self, ref: Ref, wanted: Object, found: Standing) -> bool:
        """Tell whether nothing has changed since, on either side."""
        return self._by_ref.get(ref) == (wanted, found.metadata.resource_version)


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be applied, in order, and what stands that nobody wants."""

    apply: tuple[Ref, ...]
    unwanted: tuple[Ref, ...]


def difference(wanted: Mapping[Ref, Object], standing: Mapping[Ref, Standing], applied: Applied) -> Difference:
    """Compare. Only what we say of an object counts; what others add to it stays."""
    apply = [ref for ref, obj in wanted.items() if not _stands(ref, obj, standing.get(ref), applied)]
    unwanted = [ref for ref in standing if ref not in wanted]
    return Difference(in_order(apply, APPLY_ORDER), in_order(unwanted, REMOVE_ORDER))


def _stands(ref: Ref, wanted: Object, found: Standing | None, applied: Applied) -> bool:
    if found is None or found.metadata.deletion_timestamp is not None:
        return False
    metadata = wanted["metadata"]
    said = {"labels": metadata["labels"], "annotations": metadata.get("annotations", _NOTHING)}
    content = {key: value for key, value in wanted.items() if key not in {"apiVersion", "kind", "metadata"}}
    return contains(found.content, {"metadata": said, **content}) or applied.stands(ref, wanted, found)


def in_order(refs: Iterable[Ref], kinds: tuple[Kind, ...]) -> tuple[Ref, ...]:
    """Return them by kind, else as they came."""
    places = {kind: place for place, kind in enumerate(kinds)}
    return tuple(sorted(refs, key=lambda ref: places[ref.kind]))
