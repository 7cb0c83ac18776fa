"""The API's nouns as methods. Answers are the published shapes of `wire`."""

import time
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel

from neuropod.client.errors import UnreachableError
from neuropod.client.http import Http
from neuropod.wire.accounts import ApiKey, ApiKeyPage, KeyClaimed, KeyRequestCreated, Me
from neuropod.wire.events import Event, EventPage
from neuropod.wire.gpu_types import GpuType, GpuTypePage
from neuropod.wire.logs import LogLine
from neuropod.wire.pods import Pod, PodCreate, PodEdit, PodPage, Port, PortCreate, PortEdit, PortLink
from neuropod.wire.shapes import Page
from neuropod.wire.system import System
from neuropod.wire.templates import Template, TemplatePage
from neuropod.words import Scope

ItemT = TypeVar("ItemT")
ModelT = TypeVar("ModelT", bound=BaseModel)

_RESUME_SECONDS = 1.0
_RESUMES = 60


class Api:
    """One server's API. Every method raises UnreachableError, NotSignedInError, ProblemError."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def _get(self, shape: type[ModelT], path: str, **params: Any) -> ModelT:
        return shape.model_validate_json(self._http.request("GET", path, params=params).content)

    def _post(self, shape: type[ModelT], path: str, body: dict[str, Any] | None = None) -> ModelT:
        return shape.model_validate_json(self._http.request("POST", path, body=body).content)

    def _all(self, shape: type[Page[ItemT]], path: str, **params: Any) -> Iterator[ItemT]:
        cursor: str | None = None
        while True:
            page = self._get(shape, path, cursor=cursor, **params)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    # ---- oneself and the server

    def me(self) -> Me:
        """Return who the key is."""
        return self._get(Me, "me")

    def system(self) -> System:
        """Return what the server tells of itself."""
        return self._get(System, "system")

    def ask_for_key(self, name: str, scopes: list[Scope]) -> KeyRequestCreated:
        """Ask for a key, which a person confirms on the console."""
        return self._post(KeyRequestCreated, "key-requests", {"name": name, "scopes": scopes})

    def claim_key(self, request_id: str, secret: str) -> KeyClaimed:
        """Ask whether the key request was confirmed."""
        return self._post(KeyClaimed, f"key-requests/{quote(request_id)}/claim", {"secret": secret})

    def keys(self) -> Iterator[ApiKey]:
        """Yield one's keys."""
        return self._all(ApiKeyPage, "api-keys")

    # ---- templates and types

    def templates(self) -> Iterator[Template]:
        """Yield the templates in sight."""
        return self._all(TemplatePage, "templates")

    def template(self, name: str) -> Template:
        """Return one template."""
        return self._get(Template, f"templates/{quote(name, safe='')}")

    def gpu_types(self) -> Iterator[GpuType]:
        """Yield the types on offer."""
        return self._all(GpuTypePage, "gpu-types")

    # ---- pods

    def create_pod(self, request: PodCreate) -> Pod:
        """Launch a pod; sent again after a lost answer it is still one pod."""
        answer = self._http.request("POST", "pods", body=request.sent(), idempotency_key=uuid4().hex)
        return Pod.model_validate_json(answer.content)

    def pods(self, *, all_users: bool = False) -> Iterator[Pod]:
        """Yield one's pods; administrators may ask for everybody's."""
        return self._all(PodPage, "pods", everybody=True if all_users else None)

    def pod(self, name: str) -> Pod:
        """Return one pod, by name or id."""
        return self._get(Pod, _pod(name))

    def edit_pod(self, name: str, request: PodEdit) -> Pod:
        """Change a pod."""
        return Pod.model_validate_json(self._http.request("PATCH", _pod(name), body=request.sent()).content)

    def verb(self, name: str, verb: str) -> Pod:
        """Start, stop or restart a pod."""
        return self._post(Pod, f"{_pod(name)}/{verb}")

    def delete_pod(self, name: str) -> None:
        """Delete a pod; its volume stays."""
        self._http.request("DELETE", _pod(name))

    def pod_events(self, name: str) -> Iterator[Event]:
        """Yield what happened to a pod, newest first."""
        return self._all(EventPage, f"{_pod(name)}/events")

    # ---- ports

    def add_port(self, name: str, request: PortCreate) -> Port:
        """Expose a port."""
        return self._post(Port, f"{_pod(name)}/ports", request.sent())

    def edit_port(self, name: str, port: int, request: PortEdit) -> Port:
        """Rename a port, or change who may pass."""
        answer = self._http.request("PATCH", f"{_pod(name)}/ports/{port}", body=request.sent())
        return Port.model_validate_json(answer.content)

    def remove_port(self, name: str, port: int) -> None:
        """Expose a port no more."""
        self._http.request("DELETE", f"{_pod(name)}/ports/{port}")

    def link(self, name: str, port: int) -> PortLink:
        """Make the link that opens a port; for Jupyter signed in."""
        return self._post(PortLink, f"{_pod(name)}/ports/{port}/link")

    # ---- logs

    def logs(self, name: str, *, tail: int | None, incarnation: int | None) -> str:
        """Return what a run of the pod printed."""
        return self._http.request("GET", f"{_pod(name)}/logs", params={"tail": tail, "incarnation": incarnation}).text

    def follow_logs(self, name: str, *, tail: int | None, incarnation: int | None) -> Iterator[LogLine]:
        """Yield lines until the run ends; a stream that is cut is resumed where it was, for about a minute."""
        params = {key: value for key, value in (("tail", tail), ("incarnation", incarnation)) if value is not None}
        last: str | None = None
        resumes = 0
        while True:
            try:
                for event, event_id, data in self._http.events(
                    f"{_pod(name)}/logs", params={"follow": "true", **params}, last_event_id=last
                ):
                    if event == "end":
                        return
                    if event == "line":
                        line = LogLine.model_validate_json(data)
                        if event_id == last:
                            continue  # the line that the stream was cut after
                        yield line
                        last, resumes, params = event_id, 0, {}
            except UnreachableError:
                if resumes >= _RESUMES:
                    raise
            resumes += 1
            if resumes > _RESUMES:
                return
            time.sleep(_RESUME_SECONDS)


def _pod(name: str) -> str:
    return f"pods/{quote(name, safe='')}"
