"""Whether a cluster's `gate_url` leads to a gateway of this installation, and to which addresses.

Asked by reconcile.ingress at its start and now and then.

A carrier whose gate is not there cannot gate; then only public ports are carried (SECURITY 11).
"""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

import httpx

from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.carriers.style import GateAddress, check_path
from neuropod.ids import InstallationId

_ANSWER_SECONDS = 5.0


class GateUnreachableError(Exception):
    """The URL does not lead to our gate; the sentence says what was found."""


async def reach_gate(url: str, key: CarrierKey, installation: InstallationId) -> GateAddress:
    """Return the gate that a URL leads to. Raises GateUnreachableError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        raise GateUnreachableError(f"gate_url names {host!r}, which has no address here: {error}") from error
    addresses = _of_one_family({str(address[0]) for *_, address in found})
    if any(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise GateUnreachableError(f"gate_url leads to {addresses[0]}, which in a cluster is each Pod's own")
    base = f"{parts.scheme}://{parts.netloc}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS) as client:
            answer = await client.get(f"{base}{check_path(key)}")
        whose = answer.json().get("installation") if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        raise GateUnreachableError(f"nothing of ours answers at gate_url {base}: {error!r}") from error
    if whose != installation:
        raise GateUnreachableError(f"what answers at gate_url {base} is no gateway of this installation")
    return GateAddress(base, addresses, port)


def _of_one_family(addresses: set[str]) -> tuple[str, ...]:
    """Return the IPv4 addresses, or where there are none those of IPv6: an EndpointSlice has one family."""
    plain = sorted(address.partition("%")[0] for address in addresses)
    return tuple(address for address in plain if ":" not in address) or tuple(plain)
