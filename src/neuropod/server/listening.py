"""Sockets and signals of a server process: bound before anything else, closed after everything else."""

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn

from neuropod.settings import Settings

_MOST_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), without its end


class PlainHttpError(Exception):
    """The settings would send passwords over the network in the open."""


class SocketPathError(Exception):
    """The data directory's path is too long for a Unix socket."""


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us: there are two in this process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def refuse_plain_http(settings: Settings) -> None:
    """Raise PlainHttpError for plain http beyond this machine, unless a proxy or a setting answers for it."""
    behind_proxy = bool(settings.trusted_proxies) and (settings.public_url or "").startswith("https://")
    if settings.tls_cert_file or behind_proxy or settings.accept_plain_http or _is_loopback(settings.host):
        return
    raise PlainHttpError(
        f"NEUROPOD_HOST={settings.host} would serve plain http to the network: give NEUROPOD_TLS_CERT_FILE and "
        "NEUROPOD_TLS_KEY_FILE, or put an HTTPS proxy in front and set NEUROPOD_PUBLIC_URL and "
        "NEUROPOD_TRUSTED_PROXIES, or accept it with NEUROPOD_ACCEPT_PLAIN_HTTP=true"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(settings: Settings) -> socket.socket:
    """Return the listening socket; opened before anything else, so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def machine_listener(path: Path) -> Iterator[socket.socket]:
    """Make the 0600 socket and take it away again; one that a killed server left is replaced.

    The caller holds the lock of the data directory, so nobody else's is taken away.
    """
    if len(os.fsencode(path)) > _MOST_SOCKET_PATH_BYTES:
        raise SocketPathError(
            f"{path} has more than {_MOST_SOCKET_PATH_BYTES} bytes: choose a shorter NEUROPOD_DATA_DIR"
        )
    with socket.socket(socket.AF_UNIX) as listener:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@asynccontextmanager
async def signals(told_to_end: asyncio.Event) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_end.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
