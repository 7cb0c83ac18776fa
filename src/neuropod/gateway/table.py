"""The routes that are served now, by host: one table per gateway process.

Filled by a feed (from the database, or from another server's `/internal/routes`), read for every request, followed by
the connectors, by the registry of open streams and by `/internal/routes`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from neuropod.gateway.routes import Change, Route, change_between

ChangeListener = Callable[[Change], None]


class RouteTable:
    """Routes by host. Until it is `loaded` nothing is known, and the gateway answers 503 instead of 404."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._listeners: list[ChangeListener] = []
        self.loaded = False
        self.get = self._routes.get  # bound once: it is asked for every request

    @property
    def routes(self) -> Mapping[str, Route]:
        """All routes by host, to read."""
        return MappingProxyType(self._routes)

    def listen(self, listener: ChangeListener) -> None:
        """Call `listener` with every change, and with the empty one when only the right to pass may have changed."""
        self._listeners.append(listener)

    def unlisten(self, listener: ChangeListener) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def replace(self, wanted: Mapping[str, Route]) -> None:
        """Serve these routes and no others; from now on the table is loaded."""
        self.loaded = True
        self.apply(change_between(self._routes, wanted))

    def apply(self, change: Change) -> None:
        """Carry a change out and tell the listeners, also when it is empty: sessions and keys change without routes."""
        for host in change.gone:
            self._routes.pop(host, None)
        for route in change.set:
            self._routes[route.host] = route
        for listener in list(self._listeners):
            listener(change)
