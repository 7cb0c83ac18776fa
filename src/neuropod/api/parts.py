"""What the API is built from; made once by server."""

from collections.abc import Callable
from dataclasses import dataclass, field

from neuropod.accounts.oidc.provider import Provider
from neuropod.accounts.oidc.service import Identities
from neuropod.accounts.service import Accounts
from neuropod.api.feeding.feed import EventFeed
from neuropod.db.engine import Database
from neuropod.gateway.table import RouteTable
from neuropod.ids import PodId
from neuropod.kit.clock import Clock
from neuropod.kit.secrets import SecretBox
from neuropod.observability.health import Board
from neuropod.observability.metrics import Metrics
from neuropod.pods.attachments.service import Volumes
from neuropod.pods.people import Owners
from neuropod.pods.registries.service import UserRegistries
from neuropod.pods.secrets.service import UserSecrets
from neuropod.pods.service import Pods
from neuropod.pods.usage.series import Meter
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Addresses, Settings


@dataclass(frozen=True, slots=True)
class ApiParts:
    """Everything that requests are answered with."""

    settings: Settings
    addresses: Addresses
    database: Database
    accounts: Accounts
    pods: Pods
    runtimes: Runtimes
    board: Board
    metrics: Metrics
    clock: Clock
    box: SecretBox
    routes: RouteTable  # the gateway's, where the console looks hosts up
    feed: EventFeed
    note_use: Callable[[PodId], None] = lambda _: None  # that a pod is used, by a terminal: it is not idle
    meter: Meter = field(default_factory=lambda: Meter(greatest_seconds=90))  # from answer to answer

    provider: Provider | None = None  # signs people in besides passwords and links

    @property
    def identities(self) -> Identities:
        """The use-cases of signing in by the provider."""
        return Identities(self.accounts, self.clock)

    @property
    def volumes(self) -> Volumes:
        """The use-cases of volumes."""
        return Volumes(self.settings, self.clock, self.runtimes)

    @property
    def registries(self) -> UserRegistries:
        """The use-cases of registries."""
        return UserRegistries(self.settings, self.box, self.clock)

    @property
    def secrets(self) -> UserSecrets:
        """The use-cases of secrets."""
        return UserSecrets(self.settings, self.box, self.clock)

    @property
    def owners(self) -> Owners:
        """The use-cases in which pods follow their owner."""
        return Owners(self.accounts.people, self.pods)


def provider_of(settings: Settings, addresses: Addresses, clock: Clock) -> Provider | None:
    """Return the sign-in provider of the settings; it is asked for nothing before somebody signs in."""
    if settings.oidc.issuer is None:
        return None
    return Provider(settings.oidc, clock, redirect_url=f"{addresses.console_origin}/auth/oidc/callback")
