"""What the loops work with; made once by server."""

from dataclasses import dataclass

from neuropod.accounts.service import Accounts
from neuropod.db.engine import Database
from neuropod.kit.clock import Clock
from neuropod.observability.metrics import Metrics
from neuropod.pods.service import Pods
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import EventSettings, ReconcileSettings


@dataclass(frozen=True, slots=True)
class World:
    """The rows' side and the runtimes' side."""

    settings: ReconcileSettings
    database: Database
    pods: Pods
    accounts: Accounts
    runtimes: Runtimes  # opened and verified: only their pods are touched
    metrics: Metrics
    clock: Clock
    sweeping_allowed: bool  # the installation's epoch is confirmed
    events: EventSettings = EventSettings()  # noqa: RUF009 - frozen
