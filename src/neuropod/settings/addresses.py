"""Where browsers find things: made once at start from the settings, passed down, never read from a request."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from urllib.parse import urlsplit

from pydantic import Field

from neuropod.settings.group import Group

_PORTS = {"http": 80, "https": 443}


class PodsAddress(Group):
    """Where browsers reach the pods of a runtime."""

    scheme: str
    """`http` or `https`."""

    domain: str
    """The parent domain of pod hosts."""

    port: int | None
    """The port in a browser's address bar; None for the scheme's own."""

    @classmethod
    def of_url(cls, url: str) -> "PodsAddress":
        """Return what a URL says. Raises ValueError for one that is none."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{url!r} is not scheme, domain and port alone, such as https://pods.example.org")
        return cls(scheme=parts.scheme, domain=parts.hostname, port=parts.port)

    def origin(self, host: str) -> str:
        """Return scheme, host and port of a pod's port, as an Origin header has it."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def trustworthy(self) -> bool:
        """Whether browsers take hosts below it for trustworthy: Secure cookies and Sec-Fetch-* headers come to them.

        They do over https, and for http on localhost (seen in Chromium: tests/security/test_17…).
        """
        return self.scheme == "https" or self.domain == "localhost" or self.domain.endswith(".localhost")


class Addresses(Group):
    """All of them (SECURITY 21)."""

    console_origin: str
    """Scheme, host and port of the console, as an Origin header has it."""

    console_host: str
    """The console's host name without port."""

    api_host: str
    """The API's own host name without port."""

    pods: PodsAddress
    """Where pods are whose runtime has no domain of its own."""

    pods_of: dict[str, PodsAddress] = Field(default_factory=dict)
    """Where the pods of runtimes with a domain of their own are, by the runtime's name in the settings."""

    def pods_address(self, runtime_name: str | None) -> PodsAddress:
        """Return where the pods of a runtime are; None: its name is not known."""
        return self.pods_of.get(runtime_name, self.pods) if runtime_name is not None else self.pods

    @cached_property
    def by_domain(self) -> Mapping[str, PodsAddress]:
        """The parent domains of all pod hosts, and where those are."""
        return {address.domain: address for address in (*self.pods_of.values(), self.pods)}

    def pod_address_of(self, host: str) -> PodsAddress:
        """Return where a pod host is, by its parent domain; a host of another domain is taken for the usual one's."""
        return self.by_domain.get(host.partition(".")[2], self.pods)

    def pod_origin(self, host: str) -> str:
        """Return scheme, host and port of a pod's port, as an Origin header has it."""
        return self.pod_address_of(host).origin(host)


def conflicting(addresses: Iterable[PodsAddress]) -> str | None:
    """Return a domain that two addresses have with different schemes or ports; None: there is none."""
    found: dict[str, PodsAddress] = {}
    for address in addresses:
        if found.setdefault(address.domain, address) != address:
            return address.domain
    return None
