"""Requests generated from the OpenAPI document, as nobody, a client and an administrator (SECURITY 30).

Whatever is sent: no fault of the server, and no answer that the document does not describe. A real server with the fake
runtime is asked; where a path names a thing, half of the requests name one that is there, and where a body has to hold
together, half are one that does with one of the generated fields. The seed is fixed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from neuropod.api.app import build_routes
from neuropod.api.parts import ApiParts
from neuropod.settings import Settings
from support.servers import Server, running_server, wait_for

EXAMPLES = 50
ROLES = ("anonymous", "client", "administrator")
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# What cannot be asked in this way, and why.
LEFT_OUT = {
    "GET /api/v1/events": "its answer does not end; tests/api and tests/services follow it",
}
# Bodies that are accepted, but for what has to be new: `{new}`. Generated ones hardly ever are.
ACCEPTED: dict[str, dict[str, Any]] = {
    "POST /api/v1/api-keys": {"name": "known", "scopes": ["read"]},
    "POST /api/v1/gpu-types": {
        "name": "{new}",
        "price": {"per_hour": "1"},
        "cpu_cores": 1,
        "memory_gb": 1,
        "model_pattern": "H100",
    },
    "POST /api/v1/key-requests": {"name": "known", "scopes": ["read"]},
    "POST /api/v1/templates": {"name": "{new}", "title": "Known", "image": "plain"},
    "PATCH /api/v1/templates/{template}": {"title": "Known"},
    "POST /api/v1/templates/{template}/duplicate": {"name": "{new}"},
    "POST /api/v1/users": {"email": "{new}@example.org"},
    "POST /api/v1/volumes": {"name": "{new}"},
    "PATCH /api/v1/volumes/{volume}": {"size_gb": 20},
}
# After the first of these nobody is signed in any more.
ENDS_SESSIONS = {"DELETE /api/v1/session"}


def _document() -> dict[str, Any]:
    addresses = Settings.model_construct().addresses(8080)
    made = build_routes(cast(ApiParts, SimpleNamespace(addresses=addresses))).openapi()
    del made["security"]  # else keys are generated too, and nothing but their refusal is ever seen
    return made


DOCUMENT = _document()
SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(DOCUMENT)))
OPERATIONS = sorted(
    f"{method.upper()} {path}"
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if f"{method.upper()} {path}" not in LEFT_OUT
)


@dataclass
class Asked:
    """The server, and the things on it that half of the requests name."""

    server: Server
    clients: int = 0
    news: int = 0
    known: dict[str, Any] = field(default_factory=dict)

    def machine(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        transport = httpx.HTTPTransport(uds=str(self.server.data_dir / "server.sock"))
        with httpx.Client(transport=transport, base_url="http://machine", timeout=30) as client:
            answer = client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def signed_in(self, email: str) -> dict[str, str]:
        """Return the headers that the console's page would send; each sign-in is new, since operations may end it."""
        url = self.machine("/machine/sign-in-link", {"email": email})["url"]
        headers = self.signed_out()
        answer = httpx.post(
            f"{self.server.url}/sign-in/link", headers=headers, data={"token": url.partition("#")[2]}, timeout=30
        )
        assert answer.status_code == 303, answer.text
        return headers | {"Cookie": answer.headers["set-cookie"].partition(";")[0]}

    def signed_out(self) -> dict[str, str]:
        host = f"app.neuropod.localhost:{self.server.port}"
        return {"Host": host, "Origin": f"http://{host}"}

    def caller(self, role: str) -> dict[str, str]:
        """Make a client with a running pod, since the operation before may have ended theirs; return who asks."""
        self.clients += 1
        email = f"client{self.clients}@example.org"
        made = self.machine("/machine/users", {"email": email, "role": "client"})
        client = self.signed_in(email)
        with httpx.Client(base_url=f"{self.server.url}/api/v1", headers=client, timeout=30) as api:
            answer = api.post("/pods", json={"name": "known", "template": "jupyterlab"})
            assert answer.status_code == 201, answer.text
            pod = answer.json()["id"]
            volume = answer.json()["volume"]["id"]
            assert api.put("/secrets/KNOWN", json={"value": "known"}).status_code == 200
            template = api.post("/templates", json={"name": "known", "title": "Known", "image": "plain"}).json()["id"]
            key = api.post("/api-keys", json={"name": "known", "scopes": ["read"]}).json()["id"]
            (session,) = api.get("/me/sessions").json()["items"]
            known = api.put("/registries/ghcr.io", json={"username": "known", "password": "known"})
            assert known.status_code == 200
            wait_for(lambda: api.get(f"/pods/{pod}").json()["status"] == "running", "the pod to run")
        self.known |= {
            "pod": pod,
            "secret": "KNOWN",
            "registry": "ghcr.io",
            "port": 8888,
            "user": made["id"],
            "template": template,
            "gpu_type": "cpu",
            "volume": volume,
            "key_id": key,
            "session_id": session["id"],
        }
        match role:
            case "anonymous":
                return self.signed_out()
            case "client":
                return client
            case _:
                return self.signed_in("admin@neuropod.localhost")

    def accepted(self, operation: str, generated: dict[str, Any]) -> dict[str, Any]:
        """Return a body that is accepted, with one of the generated fields, each in its turn."""
        self.news += 1
        body = {
            name: value.format(new=f"new{self.news}") if isinstance(value, str) else value
            for name, value in ACCEPTED[operation].items()
        }
        others = sorted(generated.keys() - body.keys())
        name = others[self.news % len(others)] if others else None
        return body if name is None else body | {name: generated[name]}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("generated")
    with running_server(folder / "data", fake_runtime="true") as server:
        yield Asked(server)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.xdist_group("generated requests")
@pytest.mark.timeout(300)
def test_no_request_meets_a_fault_or_an_answer_that_is_not_described(asked: Asked, role: str, operation: str):
    method, path = operation.split(" ")
    headers = asked.caller(role)
    cases = SCHEMA[path][method].as_strategy()
    answered: list[int] = []

    @seed(20261125)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, names_known=st.booleans())
    def ask(case: schemathesis.Case, names_known: bool) -> None:
        if names_known:
            for name in set(case.path_parameters or {}) & asked.known.keys():
                case.path_parameters[name] = asked.known[name]
            if isinstance(case.body, dict) and "template" in case.body:
                case.body["template"] = "jupyterlab"
                case.body.pop("image", None)
            if isinstance(case.body, dict) and operation in ACCEPTED:
                case.body = asked.accepted(operation, case.body)
        if path.endswith("/logs"):
            case.query = (case.query or {}) | {"follow": "false"}  # else the answer does not end
        response = case.call(base_url=asked.server.url, headers=headers, timeout=30)
        answered.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()

    assert asked.server.process is not None
    assert asked.server.process.poll() is None
    assert answered
    assert role == "anonymous" or operation in ENDS_SESSIONS or set(answered) != {401}
