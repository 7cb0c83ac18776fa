"""Runs a command of ours in this process against a server that the test plays, at the port: an httpx transport."""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from neuropod.cli.commands import UserCall
from neuropod.cli.hints import ADVICE
from neuropod.cli.main import root
from neuropod.client.connection import Connection
from neuropod.kit.terminal.commands import run
from neuropod.kit.terminal.screen import Screen
from support.clocks import ManualClock

URL = "http://app.neuropod.localhost:8080"
KEY = "npk_of_the_tests"

Answer = httpx.Response | Callable[[httpx.Request], httpx.Response] | Exception


class Terminal(io.StringIO):
    """A stream that says that a person sits at it."""

    def isatty(self) -> bool:
        return True


@dataclass
class PlayedServer:
    """Answers by method and path: each in turn, the last again and again."""

    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def on(self, method: str, path: str, *answers: Any, status: int = 200) -> None:
        """Answer so; a dict or a list is JSON."""
        ready = [
            answer
            if isinstance(answer, httpx.Response | Exception) or callable(answer)
            else httpx.Response(status, json=answer)
            for answer in answers
        ]
        self.answers[method, f"/api/v1{path}"] = ready

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        waiting = self.answers.get((request.method, request.url.path))
        if waiting is None:
            return problem(404, "not_found", f"the test has no {request.method} {request.url.path}")
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def bodies(self, method: str, path: str) -> list[Any]:
        """Return what was sent there."""
        return [
            json.loads(request.content) if request.content else None
            for request in self.requests
            if (request.method, request.url.path) == (method, f"/api/v1{path}")
        ]


@dataclass
class Ran:
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """A person's terminal, with a home of its own."""

    home: Path
    server: PlayedServer
    clock: ManualClock
    environ: dict[str, str] = field(default_factory=dict)
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        self.environ = {"HOME": str(self.home), "NEUROPOD_URL": URL, "NEUROPOD_API_KEY": KEY}

    def connect(self, url: str, key: str | None) -> Connection:
        return Connection(url, key, transport=httpx.MockTransport(self.server), sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock._move(self.clock._elapsed + seconds)
        if self.on_sleep is not None:
            self.on_sleep(seconds)

    def call(self, out: io.StringIO, err: io.StringIO) -> UserCall:
        screen = Screen(out, err, {"TERM": "xterm"})
        return UserCall(screen, environ=self.environ, connect=self.connect, clock=self.clock, sleep=self._sleep)

    def run(self, *words: str, terminal: bool = False) -> Ran:
        kind = Terminal if terminal else io.StringIO
        out, err = kind(), kind()
        code = run(root, self.call(out, err), words, advice=ADVICE)
        return Ran(int(code), out.getvalue(), err.getvalue())


def problem(status: int, code: str, detail: str, fields: Iterable[Mapping[str, str]] = ()) -> httpx.Response:
    """Return an error as the API has it."""
    content = {"title": "-", "status": status, "detail": detail, "code": code, "fields": list(fields)}
    return httpx.Response(status, json=content)


def pod_json(**changes: Any) -> dict[str, Any]:
    """Return a pod as the API has it."""
    pod = {
        "id": "pod_1",
        "name": "lab",
        "owner": {"id": "usr_1", "email": "ada@example.org", "hash": "abcdefgh"},
        "created_by": {"id": "usr_1", "email": "ada@example.org", "hash": "abcdefgh"},
        "created_at": "2026-01-01T00:00:00Z",
        "want": "running",
        "status": "running",
        "reason": "ready",
        "message": "Running.",
        "progress": None,
        "since": "2026-01-01T00:00:00Z",
        "place": None,
        "holders": [],
        "template": "jupyterlab",
        "image": None,
        "command": None,
        "gpu_type": "cpu",
        "gpu_count": 1,
        "cpu_cores": 2,
        "memory_gb": 4,
        "container_disk_gb": 10,
        "volume": {"id": "vol_1", "name": "workspace", "size_gb": 10, "path": "/workspace"},
        "jupyter": "platform",
        "ports": [
            {
                "port": 8888,
                "name": "Jupyter Lab",
                "access": "private",
                "host": "lab-abcdefgh-8888.neuropod-pods.localhost",
                "url": "http://lab-abcdefgh-8888.neuropod-pods.localhost:8080/",
            }
        ],
        "price": {"per_hour": "0.30", "per_hour_micros": 300_000, "currency": "EUR"},
        "stop_after_seconds": None,
        "idle_stop_after_seconds": None,
        "stops_at": None,
        "idle": None,
        "runtime": "fake:one",
        "incarnation": {
            "number": 1,
            "opened_at": "2026-01-01T00:00:00Z",
            "started_at": "2026-01-01T00:00:00Z",
            "ready_at": "2026-01-01T00:00:00Z",
            "ended_at": None,
            "exit_code": None,
            "reason": "ready",
            "message": "",
        },
    }
    return pod | changes
