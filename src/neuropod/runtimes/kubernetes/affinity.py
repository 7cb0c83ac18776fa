"""Which nodes a node selector means: the rules of Kubernetes, for the terms that a PersistentVolume has. Pure.

Called by `bound`. As component-helpers' `nodeaffinity` (1.36) has it: one term that matches is enough, within a term
all has to match, and a term that is empty or written wrong matches nothing.
"""

import re
from collections.abc import Mapping, Sequence

from neuropod.runtimes.kubernetes.shapes import NodeRequirement, NodeSelectorShape, NodeTerm

_NAME = "metadata.name"  # the one field of a node
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1


def matches(selector: NodeSelectorShape, labels: Mapping[str, str], name: str = "") -> bool:
    """Tell whether a node of these labels and that name is among those that are meant.

    Without a name its fields are not looked at: so do scheduler and kubelet where they look at a volume's selector
    (`volume.CheckNodeAffinity`).
    """
    return any(_term_matches(term, labels, name) for term in selector.node_selector_terms)


def _term_matches(term: NodeTerm, labels: Mapping[str, str], name: str) -> bool:
    if not (term.match_expressions or term.match_fields):
        return False
    if not (all(map(_is_expression, term.match_expressions)) and all(map(_is_field, term.match_fields))):
        return False
    fields = {_NAME: name}
    return all(_holds(one, labels) for one in term.match_expressions) and (
        not name or all(_holds(one, fields) for one in term.match_fields)
    )


def _is_expression(requirement: NodeRequirement) -> bool:
    """Tell whether it is written as it has to be."""
    match requirement.operator:
        case "In" | "NotIn":
            return bool(requirement.values)
        case "Exists" | "DoesNotExist":
            return not requirement.values
        case "Gt" | "Lt":
            return _bound(requirement.values) is not None
        case _:
            return False


def _is_field(requirement: NodeRequirement) -> bool:
    return requirement.operator in {"In", "NotIn"} and len(requirement.values) == 1


def _holds(requirement: NodeRequirement, of: Mapping[str, str]) -> bool:
    there = of.get(requirement.key)
    match requirement.operator:
        case "In":
            return there in requirement.values
        case "NotIn":
            return there not in requirement.values  # what has no such label is not among them
        case "Exists":
            return there is not None
        case "DoesNotExist":
            return there is None
    number, bound = None if there is None else _integer(there), _bound(requirement.values)
    if number is None or bound is None:
        return False
    return number > bound if requirement.operator == "Gt" else number < bound


def _bound(values: Sequence[str]) -> int | None:
    return _integer(values[0]) if len(values) == 1 else None


def _integer(text: str) -> int | None:
    """Return the number as Go's ParseInt does, for 64 bits; None for what is none."""
    number = int(text) if _INTEGER.fullmatch(text) and len(text) < 32 else None
    return number if number is not None and _SMALLEST <= number <= _LARGEST else None
