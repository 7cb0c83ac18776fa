"""A carrier as the builders need it: which controller, and how it reaches our gate. Made by reconcile.ingress."""

from dataclasses import dataclass
from typing import Literal

from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.ids import InstallationId

QUESTION_PATH = "/.neuropod/gate"  # on the gate's own host: where carriers ask
SIGN_IN_PATH = "/.neuropod/sign-in"  # on pod hosts: where the nginx class sends who is not known

CarrierKind = Literal["ingress", "nginx"]


@dataclass(frozen=True, slots=True)
class GateAddress:
    """Where controllers reach our gateway: its URL, and the addresses that the URL's host has."""

    url: str  # scheme, host and port, without a slash at its end
    addresses: tuple[str, ...]  # of one family, at least one
    port: int


@dataclass(frozen=True, slots=True)
class Carrier:
    """One cluster's ingress controller. `gate` None: it cannot ask the gate, and carries public ports alone."""

    kind: CarrierKind
    installation: InstallationId
    ingress_class: str
    gate: GateAddress | None
    key: CarrierKey
    tls_secret: str | None = None
    idle_seconds: int = 3600

    def question_url(self, host: str) -> str:
        """Return the address that is asked about requests for a host; its proof lets it ask about that host alone."""
        assert self.gate is not None
        return f"{self.gate.url}{question_path(self.key, self.kind, host)}"


def question_path(key: CarrierKey, kind: CarrierKind, host: str) -> str:
    """Return the path below which a carrier of a kind asks about a host."""
    return f"{QUESTION_PATH}/{kind}/{host}/{key.proof(f'{kind} {host}')}"


def check_path(key: CarrierKey) -> str:
    """Return the path by which a server finds out whether a gate's URL leads to a gateway of this installation."""
    return f"{QUESTION_PATH}/check/{key.proof('check')}"
