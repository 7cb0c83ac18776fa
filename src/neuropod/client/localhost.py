"""Names below `localhost` are this machine (RFC 6761 §6.3), whatever the resolver says: most do not know them.

So `http://app.neuropod.localhost:8080` works from a program as it does in a browser.
"""

import ipaddress
import ssl

import httpx

LOOPBACKS = ("127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Tell whether that host is this machine, so that what is said to it stays here."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LoopbackTransport(httpx.BaseTransport):
    """Carries requests for this machine to its loopback addresses, with the Host header and the TLS name as asked."""

    def __init__(self, *, tls: bool) -> None:
        # Without TLS a context that trusts nobody: loading certificates would cost each command some 20 ms.
        context = ssl.create_default_context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._inner = httpx.HTTPTransport(verify=context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host != "localhost" and not host.endswith(".localhost"):
            return self._inner.handle_request(request)
        for address in LOOPBACKS[:-1]:
            try:
                return self._inner.handle_request(_to(request, address))
            except httpx.ConnectError:
                continue  # nothing was sent yet
        return self._inner.handle_request(_to(request, LOOPBACKS[-1]))

    def close(self) -> None:
        self._inner.close()


def _to(request: httpx.Request, address: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions | {"sni_hostname": request.url.host},
    )
