"""WebSockets of the hosts that are not pods, as uvicorn speaks them; given to it by app.serving_config.

A refusal with an answer of its own (the ASGI extension `websocket.http.response`) is as good an end of the handshake as
any. uvicorn 0.54 takes it for none and writes an error into the log for each. And a client that reads nothing shall not
hold up the end of the server.
"""

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_FAREWELL_SECONDS = 1.0


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the app sends."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def shutdown(self) -> None:
        """End, since the server does."""
        super().shutdown()
        self.loop.call_later(_FAREWELL_SECONDS, self.transport.abort)
