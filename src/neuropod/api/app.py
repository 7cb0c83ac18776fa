"""Builds the ASGI app for all hosts that are not pods. Called once, by server, and by tests.

From outside in: `Watch` (a log line, a measurement, defects), `HostDoor` (which host is served what), `SmallBodies`,
then FastAPI with the routes of `/api/v1`, the pages, health and metrics. OpenAPI 3.1 is at `/api/v1/openapi.json`.
"""

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from neuropod import __version__
from neuropod.api import errors
from neuropod.api.hosts import HostDoor
from neuropod.api.pages import connect, home, oidc, passing, sign_in
from neuropod.api.pages.rendering import Pages
from neuropod.api.parts import ApiParts
from neuropod.api.routes import (
    api_keys,
    audit,
    epoch,
    events,
    execs,
    gpu_types,
    identities,
    key_requests,
    logs,
    me,
    operations,
    pods,
    ports,
    quotes,
    registries,
    secrets,
    session,
    system,
    templates,
    usage,
    users,
    volumes,
)
from neuropod.api.watching import SmallBodies, Watch
from neuropod.wire.problems import Problem

API_ROUTES = (  # looked through one after another for each request: the most asked first
    pods,
    session,
    me,
    users,
    identities,
    audit,
    api_keys,
    key_requests,
    templates,
    gpu_types,
    usage,
    ports,
    volumes,
    registries,
    secrets,
    quotes,
    logs,
    execs,
    events,
    system,
    epoch,
)
PAGE_ROUTES = (sign_in, oidc, home, connect, passing)


def build_api(parts: ApiParts) -> ASGIApp:
    """Return the app."""
    app = build_routes(parts)
    return Watch(HostDoor(SmallBodies(app), parts.settings, parts.addresses), parts.metrics, parts.clock)


def build_routes(parts: ApiParts) -> FastAPI:
    """Return the routes without the layers around them: what `build_api` wraps, and what tests look through."""
    app = FastAPI(
        title="Neuropod",
        version=__version__,
        summary="A self-hosted GPU cloud.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.parts = parts
    app.state.pages = pages = Pages(parts.addresses)
    problems: dict[int | str, dict[str, Any]] = {
        "default": {
            "description": "A problem (RFC 9457) with a stable code.",
            "content": {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    }
    for noun in API_ROUTES:  # one by one: a router of routers is looked through whole, and thrice, for each request
        app.include_router(noun.router, prefix="/api/v1", responses=problems)
    app.include_router(operations.router)
    for page in PAGE_ROUTES:
        app.include_router(page.router)
    errors.install(app, pages.error, pods.CHECKS | gpu_types.CHECKS | quotes.CHECKS)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI document: how one signs in, and what a problem looks like."""
    plain = app.openapi

    def openapi() -> dict[str, object]:
        document = plain()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        if "Problem" not in schemas:
            made = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= made.pop("$defs", {})
            schemas["Problem"] = made
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)  # ours is a Problem, like all others
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
