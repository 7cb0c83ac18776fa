"""As much of a Jupyter front end as the tests need: a kernel, and cells run through its WebSocket.

The protocol: https://jupyter-client.readthedocs.io/en/stable/messaging.html, as the server's REST API and WebSocket
carry it.
"""

import json
import socket
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
from websockets.sync.client import ClientConnection, connect


class Kernel:
    """A kernel of a Jupyter server behind a gateway at `url`, for the host and keys in `headers`."""

    def __init__(self, url: str, headers: dict[str, str], token: str) -> None:
        self._url, self._headers, self._token = url, headers, token
        answer = httpx.post(
            f"{url}/api/kernels?{urlencode({'token': token})}", headers=headers, json={"name": "python3"}, timeout=60
        )
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["id"]

    def open(self) -> ClientConnection:
        """Open the kernel's WebSocket."""
        address = httpx.URL(self._url)
        connection = socket.create_connection((address.host, address.port))
        path = f"/api/kernels/{self.id}/channels?{urlencode({'token': self._token, 'session_id': uuid4().hex})}"
        extra = {name: value for name, value in self._headers.items() if name != "Host"}
        return connect(
            f"ws://{self._headers['Host']}{path}",
            sock=connection,
            additional_headers=extra,
            open_timeout=60,
            max_size=None,
        )


def send_cell(channel: ClientConnection, code: str) -> str:
    """Let code run, and return the id of the message that asked for it."""
    message_id = uuid4().hex
    header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "", "version": "5.4"}
    content: dict[str, Any] = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    channel.send(
        json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})
    )
    return message_id


def run_cell(channel: ClientConnection, code: str, timeout: float = 120) -> str:
    """Run code and return what it printed; an error in it fails the test."""
    message_id = send_cell(channel, code)
    printed = ""
    while True:
        message = json.loads(channel.recv(timeout=timeout))
        if message["parent_header"].get("msg_id") != message_id:
            continue
        match message["msg_type"]:
            case "stream":
                printed += message["content"]["text"]
            case "error":
                raise AssertionError("\n".join(message["content"]["traceback"]))
            case "status" if message["content"]["execution_state"] == "idle":
                return printed
