"""To which of several runtimes a new pod goes: the first that has room, in the order of the settings. Pure.

Called by drafts with those where the pod may run (`placing`). Once made a pod stays where it is, so one that has to
wait waits where it could run at all, if there is such a place; else where nobody knows, because it gives no answer now.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from neuropod.ids import RuntimeId
from neuropod.pods.room import Need, Taken, emptied, shortage
from neuropod.runtimes.contract import Capacity


def could_ever(capacity: Capacity, need: Need) -> bool:
    """Tell whether there is that much at all, whoever has it now."""
    return shortage(need, emptied(capacity), Taken()) is None


@dataclass(frozen=True, slots=True)
class Prospect:
    """A runtime where a pod may run, as it is now."""

    runtime_id: RuntimeId
    capacity: Capacity | None  # None: it gives no answer
    taken: Taken  # with what the launch itself makes of volumes
    waiting: int  # how many wait there for the same type, and asked before

    def has_room(self, need: Need) -> bool:
        """Tell whether the pod would be opened at once, by the rule of Open."""
        return self.capacity is not None and self.waiting == 0 and shortage(need, self.capacity, self.taken) is None

    def could_have_room(self, need: Need) -> bool:
        """Tell whether there is that much at all, whoever has it now."""
        return self.capacity is not None and could_ever(self.capacity, need)


def chosen(prospects: Sequence[Prospect], need: Need) -> RuntimeId:
    """Return the first with room, else the first that could have it, else that gives no answer, else of all.

    There is at least one.
    """
    ranked = [one for one in prospects if one.has_room(need)]
    ranked += [one for one in prospects if one.could_have_room(need)]
    ranked += [one for one in prospects if one.capacity is None]
    return (ranked or list(prospects))[0].runtime_id
