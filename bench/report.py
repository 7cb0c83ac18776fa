"""How measurements are printed: a line each, with its aim and whether it was met."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value, what it was held against, and the aim."""

    name: str
    value: float
    aim: str
    met: bool
    details: str = ""

    def line(self) -> str:
        return f"{'met ' if self.met else 'MISS'}  {self.name}: {self.value:.3g} (aim: {self.aim})  {self.details}"


def at_most(name: str, value: float, aim: float, details: str = "") -> Figure:
    return Figure(name, value, f"at most {aim:g}", value <= aim, details)


def at_least(name: str, value: float, aim: float, details: str = "") -> Figure:
    return Figure(name, value, f"at least {aim:g}", value >= aim, details)


def spread(values: Sequence[float]) -> str:
    return (
        f"{min(values):.3g} / {statistics.median(values):.3g} / {max(values):.3g} (min / median / max of {len(values)})"
    )


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
