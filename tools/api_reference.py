"""Writes docs/reference/api.md from the server's own OpenAPI document: `make reference`. A test compares them."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from neuropod.api.app import build_routes
from neuropod.api.parts import ApiParts
from neuropod.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "api.md"

_HEAD = """\
# The HTTP API

<!-- Made by tools/api_reference.py; a test fails when it is not up to date. -->

Everything that the console and the commands do goes through this API. The same as an OpenAPI 3.1 document, good to
generate clients from, is at `/api/v1/openapi.json` of a running server.

- **Where**: `api.<domain>`, or the server's address with `/api/v1`. Programs send `Authorization: Bearer <key>`; a
  key's scopes say what it may do (`read`, `write`, `admin`, `ports`; none implies another). Browsers have a session.
- **Shapes**: JSON, snake_case. Times are RFC 3339 in UTC, durations end in `_seconds`, money in `_micros`
  (millionths).
  A field that a request does not have is refused. Errors are problems: [errors](errors.md).
- **Lists** come in pages: `{"items": […], "next_cursor": …}`; send the cursor back as `?cursor=…` until it is null.
- **Repeating**: a POST that makes something takes the header `Idempotency-Key`; the same key with the same body within
  a day is answered as the first time and does nothing twice.
- Things of others are answered as if they did not exist (404).
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI document, made without a server: its routes look at nothing before they are asked."""
    parts = SimpleNamespace(settings=Settings.model_construct(), addresses=Settings.model_construct().addresses(8080))
    made: dict[str, Any] = build_routes(cast("ApiParts", parts)).openapi()
    return made


def page() -> str:
    """Return the page."""
    made = document()
    schemas = made["components"]["schemas"]
    by_tag: dict[str, list[str]] = {}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    parts = [_HEAD]
    for tag, operations in by_tag.items():
        parts += [f"## {tag.capitalize()}\n", *operations]
    parts.append("## Shapes\n")
    parts += [_shape(name, schema) for name, schema in sorted(schemas.items()) if "properties" in schema]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"### {method.upper()} {path}", "", _text(operation.get("description") or operation.get("summary", ""))]
    rows = [
        f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {_text(one.get('description', ''))} |"
        for one in operation.get("parameters", [])
        if one["in"] != "path"
    ]
    if rows:
        lines += ["", "| parameter | in | type | meaning |", "|---|---|---|---|", *rows]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        lines += ["", f"Body: {_type(content['schema'])}"]
    lines += ["", f"Answer: {', '.join(_answers(operation))}", ""]
    return "\n".join(lines)


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        if status != "default":
            shapes = " or ".join(
                _type(content["schema"]) if content.get("schema") else f"`{kind}`"
                for kind, content in answer.get("content", {}).items()
            )
            yield f"{status} {HTTPStatus(int(status)).phrase}" + (f" with {shapes}" if shapes else "")


def _shape(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        f"| `{field}` | {_type(one)}{', needed' if field in needed else ''} | {_text(one.get('description', ''))} |"
        for field, one in schema["properties"].items()
    ]
    return "\n".join([f"### {name}", "", _text(schema.get("description", "")), "", *_TABLE, *rows, ""])


_TABLE = ("| field | type | meaning |", "|---|---|---|")
_BOUNDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}


def _type(schema: dict[str, Any]) -> str:
    """Say in words what a schema takes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(_type(one) for one in schema[choice])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    bounds = "".join(f", {word} {schema[name]}" for name, word in _BOUNDS.items() if name in schema)
    default = f", default `{schema['default']}`" if schema.get("default") is not None else ""
    return f"{schema.get('format', kind)}{bounds}{default}"


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
