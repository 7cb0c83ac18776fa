"""Byte streams to ports of Pods: dialled, or through the API server's portforward where there is no route to them.

Called by `runtime.connect`. Which Pod an incarnation is, and whether that may be believed now, is decided there.
"""

import asyncio
import socket
from ipaddress import ip_address
from typing import cast

from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.kube.forwarding import PortForward
from neuropod.kube.informer import Key
from neuropod.runtimes.contract import Connection, NotReadyError, RuntimeUnavailableError, WorkloadId
from neuropod.runtimes.kubernetes.seen import is_ended
from neuropod.runtimes.kubernetes.standing import Standing
from neuropod.runtimes.kubernetes.watching import ClusterWatch

_PROVEN = 10_000
_DIAL_SECONDS = 3.0
_REFUSAL_SECONDS = 1.0  # so long a node may take to say that nothing listens; it never says that something does


class Ports:
    """The ports of one cluster's Pods."""

    def __init__(self, client: KubeClient, watch: ClusterWatch, standing: Standing, *, direct: bool) -> None:
        self._client = client
        self._watch = watch
        self._standing = standing
        self._direct = direct
        self._proven: dict[tuple[str, int], None] = {}  # ports by the Pod's UID, the latest last

    async def connect(self, workload_id: WorkloadId, port: int, *, probing: bool = False) -> Connection:
        """See the contract. A probe waits for no refusal: it sees by the answer whether there is one.

        An address is believed only while the watch stands, or fresh from the API server: it may be another's soon
        after its Pod has ended (SECURITY 3). It is asked again after the connection was made.
        """
        pod = await self._standing.running(workload_id)
        if pod is None or not pod.status.pod_ip:
            raise NotReadyError("it does not run")
        if self._direct:
            connection = await dial(pod.status.pod_ip, port)
        else:
            key = pod.metadata.uid, port
            place = pod.metadata.namespace, pod.metadata.name
            connection = await forward(self._client, place, port, proven=probing or key in self._proven)
            if not probing:
                self._prove(key)
        now = self._watch.at((pod.metadata.namespace, pod.metadata.name))
        if now is not None and (now.metadata.uid != pod.metadata.uid or is_ended(now)) and self._watch.fresh:
            await _let_go(connection)
            raise NotReadyError("it has ended")
        return connection

    def _prove(self, key: tuple[str, int]) -> None:
        self._proven.pop(key, None)
        self._proven[key] = None
        if len(self._proven) > _PROVEN:
            del self._proven[next(iter(self._proven))]


async def _let_go(connection: Connection) -> None:
    (await connection.attach(asyncio.Protocol())).abort()


async def dial(address: str, port: int) -> Connection:
    """Connect to a Pod's address. Raises NotReadyError."""
    version = ip_address(address).version
    connection = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(_DIAL_SECONDS):
            await loop.sock_connect(connection, (address, port))
    except (OSError, TimeoutError) as error:
        connection.close()
        raise NotReadyError(f"nothing answers on port {port}: {error or 'no answer'}") from error
    except BaseException:
        connection.close()
        raise

    async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        transport, _ = await loop.create_connection(lambda: protocol, sock=connection)
        return transport

    return Connection(attach)


async def forward(client: KubeClient, key: Key, port: int, *, proven: bool) -> Connection:
    """Connect through the API server; to loopback of the Pod. Raises NotReadyError, RuntimeUnavailableError.

    That a port is shut is only told by a complaint that comes a moment later, so that is waited for, but not where a
    port was `proven` to answer before.
    """
    try:
        stream = await client.port_forward(*key, port)
    except KubeUnavailableError as error:
        raise RuntimeUnavailableError(str(error)) from error
    except KubeError as error:
        raise NotReadyError(f"port {port} cannot be reached: {error.message}") from error
    if proven:
        return Connection(stream.attach)
    try:
        return await _unless_refused(stream, port)
    except BaseException:
        stream.close()
        raise


async def _unless_refused(stream: PortForward, port: int) -> Connection:
    held = _Held()
    transport = await stream.attach(held)
    try:
        async with asyncio.timeout(_REFUSAL_SECONDS):
            await held.over.wait()
    except TimeoutError:
        pass
    except BaseException:
        transport.abort()
        raise
    if held.over.is_set() and not held.data:
        raise NotReadyError(f"nothing answers on port {port}: {held.error or 'closed at once'}")

    async def attach(protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        held.hand_over(cast("asyncio.Protocol", protocol), transport)
        return transport

    return Connection(attach)


class _Held(asyncio.Protocol):
    """Keeps what comes until the protocol is there that it is for."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.error: Exception | None = None
        self.over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.over.set()

    def hand_over(self, protocol: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Let the protocol have the stream as if it had been there from the start."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self.data:
            if isinstance(protocol, asyncio.BufferedProtocol):
                _feed_buffered(protocol, bytes(self.data))
            else:
                protocol.data_received(bytes(self.data))
        if self.over.is_set():
            asyncio.get_running_loop().call_soon(protocol.connection_lost, self.error)


def _feed_buffered(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    while data:
        buffer = memoryview(protocol.get_buffer(len(data)))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]
