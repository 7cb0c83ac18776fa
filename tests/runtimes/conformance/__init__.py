"""What every runtime must do: the rules of runtimes/contract.py, as tests over a kit that each runtime's tests bring.

A module of tests derives a class `Test…` from `Conformance` and gives a fixture `kit`. Nothing here assumes a clock of
its own: what takes time is waited for, with a deadline.
"""

from runtimes.conformance.commands import ExecRules
from runtimes.conformance.ends import EndRules
from runtimes.conformance.kit import PORT, SECRET, Kit
from runtimes.conformance.measuring import UsageRules
from runtimes.conformance.reaching import ReachRules
from runtimes.conformance.reading import LogRules
from runtimes.conformance.verbs import VerbRules
from runtimes.conformance.volumes import VolumeRules

__all__ = ["PORT", "SECRET", "Conformance", "Kit"]


class Conformance(VerbRules, EndRules, LogRules, ReachRules, UsageRules, ExecRules, VolumeRules):
    """All rules."""
