"""Interfaces, addresses and routes by netlink: a batch of `ip` takes 10 ms of each launch, this one.

Called by `network`'s two modes. Standard library only; each call is acknowledged by the kernel or raises its OSError.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, mask of flags
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags
_NETFILTER_HEADER = struct.Struct("=BBH")  # family, version, resource
_ATTRIBUTE = struct.Struct("=HH")

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _GETROUTE = 24, 26
_ERROR, _DONE = 2, 3
NETFILTER = 12  # the part of the kernel that nftables belongs to
NEWS_OF_TABLES = 1 << 6  # groups of messages: of `NETFILTER`, about nftables
NEWS_OF_ADDRESSES = 0x10  # about IPv4 addresses
_GETTABLE, _TABLE_NAME, _FAMILY_INET = 10 << 8 | 1, 1, 1
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 1, 4, 0x200, 0x400, 0x300
_NESTED = 0x8000
_UP = 1

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1


class Netlink:
    """A socket to the routing part of the kernel, in the network namespace of the thread that made it.

    It stays there when the thread leaves. With `news` (groups of messages) it is for `heard` alone.
    """

    def __init__(self, part: int = socket.NETLINK_ROUTE, *, news: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, part)
        self._sequence = 0
        if news:
            self._socket.bind((0, news))
            self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; may be repeated."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for waiting until there is news."""
        return self._socket.fileno()

    def heard(self) -> None:
        """Throw away what has come: that something changed is all the news there is."""
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more came than was kept
                    raise

    def add_veth(self, name: str, peer: str, *, peer_namespace: int, mtu: int) -> None:
        """Make a pair of interfaces, the peer in the namespace that the descriptor names; both still off."""
        size = _number(_IFLA_MTU, mtu)
        far = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer) + _number(_IFLA_NET_NS_FD, peer_namespace) + size
        data = _nest(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER | _NESTED, far))
        info = _nest(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, b"veth") + data)
        self._do(_NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name) + size + info, _CREATE | _EXCL)

    def delete_link(self, name: str) -> bool:
        """Take an interface away (a veth with its peer); False when there is none."""
        try:
            self._do(_DELLINK, _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name))
        except OSError:
            return False
        return True

    def set_up(self, name: str) -> None:
        """Switch an interface on."""
        self._do(_NEWLINK, _LINK.pack(0, 0, socket.if_nametoindex(name), _UP, _UP))

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give an interface an IPv4 address."""
        packed = socket.inet_aton(address)
        body = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, socket.if_nametoindex(name))
        self._do(_NEWADDR, body + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed), _CREATE | _EXCL)

    def add_default_route(self, gateway: str) -> None:
        """Send what is for elsewhere to the gateway."""
        body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, 0, _UNICAST, 0)
        self._do(_NEWROUTE, body + _attribute(_RTA_GATEWAY, socket.inet_aton(gateway)), _CREATE | _EXCL)

    def links(self) -> dict[str, int]:
        """Return each interface's name and MTU."""
        found = {}
        for body in self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            attributes = dict(_attributes(body[_LINK.size :]))
            name = attributes[_IFLA_IFNAME].rstrip(b"\0").decode()
            found[name] = int.from_bytes(attributes.get(_IFLA_MTU, b"\xdc\x05"), "little")
        return found

    def addresses(self) -> list[str]:
        """Return every address of this namespace, of both families."""
        found = []
        for body in self._dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            attributes = dict(_attributes(body[_ADDRESS.size :]))
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed is not None:
                found.append(socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed))
        return found

    def routes(self) -> list[tuple[str, str]]:
        """Return the IPv4 routes of the main table: (network as CIDR, interface)."""
        found = []
        for body in self._dump(_GETROUTE, _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
            length, kind = body[1], body[7]
            attributes = dict(_attributes(body[_ROUTE.size :]))
            table = int.from_bytes(attributes.get(_RTA_TABLE, b"\xfe"), "little")
            if table != _TABLE_MAIN or kind != _UNICAST:
                continue
            name = ""
            if _RTA_OIF in attributes:
                with suppress(OSError):
                    name = socket.if_indextoname(int.from_bytes(attributes[_RTA_OIF], "little"))
            found.append((f"{socket.inet_ntoa(attributes.get(_RTA_DST, bytes(4)))}/{length}", name))
        return found

    def has_table(self, name: str) -> bool:
        """Tell whether nftables has a table of that name (family inet); of a socket to `NETFILTER`."""
        try:
            self._dump(
                _GETTABLE, _NETFILTER_HEADER.pack(_FAMILY_INET, 0, 0) + _text(_TABLE_NAME, name), _REQUEST | _ACK
            )
        except FileNotFoundError:
            return False
        return True

    def _do(self, kind: int, body: bytes, flags: int = 0) -> None:
        self._send(kind, body, _REQUEST | _ACK | flags)
        for _ in self._answers():
            pass

    def _dump(self, kind: int, body: bytes, flags: int = _REQUEST | _DUMP) -> list[bytes]:
        self._send(kind, body, flags)
        return list(self._answers())

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)

    def _answers(self) -> Iterator[bytes]:
        """Yield the bodies that answer the last request, until it is done or acknowledged."""
        while True:
            data = self._socket.recv(1 << 17)
            at = 0
            while at < len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -int.from_bytes(body[:4], "little", signed=True)
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                yield body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attributes(data: bytes) -> Sequence[tuple[int, bytes]]:
    found = []
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found.append((kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]))
        at += (length + 3) & ~3
    return found
