"""To which of several runtimes a new pod goes."""

import pytest

from neuropod.catalogue.devices import Finder
from neuropod.ids import RuntimeId
from neuropod.pods.choice import Prospect, chosen
from neuropod.pods.room import Need, Taken
from neuropod.runtimes.contract import Capacity, Device

NEED = Need(cpu_cores=2, memory_bytes=10, disk_bytes=10, gpus=1, finder=Finder("RTX 4090"))
ROOMY = Capacity(8, 100, 1000, (Device("a", "RTX 4090"),))
SMALL = Capacity(1, 100, 1000, (Device("a", "RTX 4090"),))
FULL = Taken(devices=frozenset({"a"}))


def prospect(name: str, capacity: Capacity | None = ROOMY, taken: Taken | None = None, waiting: int = 0) -> Prospect:
    return Prospect(RuntimeId(name), capacity, taken or Taken(), waiting)


@pytest.mark.parametrize(
    ("prospects", "goes_to"),
    [
        ([prospect("one"), prospect("two")], "one"),
        ([prospect("full", taken=FULL), prospect("two"), prospect("three")], "two"),
        ([prospect("queue", waiting=1), prospect("two")], "two"),
        ([prospect("silent", None), prospect("two")], "two"),
        ([prospect("small", SMALL), prospect("full", taken=FULL), prospect("fuller", taken=FULL)], "full"),
        ([prospect("silent", None), prospect("queue", waiting=1)], "queue"),
        ([prospect("small", SMALL), prospect("smaller", Capacity(0, 0, 0))], "small"),
        ([prospect("small", SMALL), prospect("silent", None)], "silent"),
    ],
    ids=[
        "the first with room", "not a full one", "not one with a queue", "not one that gives no answer",
        "of full ones the first that is large enough", "a queue rather than silence", "where it never fits the first",
        "where nobody knows rather than where it never fits",
    ],
)  # fmt: skip
def test_a_pod_goes(prospects: list[Prospect], goes_to: str):
    assert chosen(prospects, NEED) == goes_to
