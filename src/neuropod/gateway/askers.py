"""The gate's side of carriers that ask it: under which hosts they do, the key, and whose carriers may be behind.

Made once per process by app.Gateway where a cluster's carrier asks; used by question and visit.
"""

from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.gate import Credential
from neuropod.gateway.routes import Change, Route
from neuropod.gateway.table import RouteTable
from neuropod.kit.clock import Clock

# So long after a change a controller may still send to where the port's Service led before.
_SETTLES_SECONDS = 15.0


class Askers:
    """Follows the route table."""

    def __init__(self, key: CarrierKey, hosts: frozenset[str], table: RouteTable, clock: Clock) -> None:
        self.key = key
        self.hosts = hosts  # of the settings' `gate_url`, lower case
        self._clock = clock
        self._incarnations: dict[str, tuple[int | None, float]] = {}  # by host, and since when
        table.listen(self._follow)

    def _follow(self, change: Change) -> None:
        for host in change.gone:
            self._incarnations.pop(host, None)
        now = self._clock.monotonic()
        for route in change.set:
            known = self._incarnations.get(route.host)
            if known is None:
                self._incarnations[route.host] = (route.incarnation, float("-inf"))
            elif known[0] != route.incarnation:
                self._incarnations[route.host] = (route.incarnation, now)

    def may_come_here(self, route: Route) -> bool:
        """Tell whether a request for a route that the gate lets pass may be sent to this gateway, not to the pod."""
        if route.incarnation is None:
            return True
        _, since = self._incarnations.get(route.host, (None, float("-inf")))
        return self._clock.monotonic() - since < _SETTLES_SECONDS

    def carry(self, credential: Credential, host: str) -> str:
        """Return a credential sealed for the request's way through the carrier to this gateway."""
        return self.key.carry(credential.key, credential.pass_value, host, now=self._clock.now())

    def carried(self, text: bytes, host: str) -> Credential | None:
        """Return what a carrier brings back; None when it is not ours, or too old."""
        found = self.key.carried(text.decode("latin-1"), host, now=self._clock.now())
        if found is None:
            return None
        key, pass_value = found
        return Credential(key=key) if key is not None else Credential(pass_value=pass_value, host=host)
