"""Null bytes and lone surrogates in paths, queries and bodies are the caller's fault, on both databases."""

import pytest

from support.api import ApiWorld


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/pods/%00", None),
        ("GET", "/api/v1/pods?name=%00", None),
        ("GET", "/api/v1/templates/a%00b", None),
        ("PATCH", "/api/v1/gpu-types/%00", b'{"title": "x"}'),
        ("POST", "/api/v1/pods/quote", b'{"name": "lab", "template": "\\u0000"}'),
        ("POST", "/api/v1/pods/quote", b'{"name": "lab", "image": "plain", "gpu_type": "\\ud800"}'),
        ("POST", "/api/v1/pods", b'{"name": "a\\u0000", "image": "plain"}'),
    ],
)
async def test_it_is_an_answer_and_no_defect(world: ApiWorld, method: str, path: str, body: bytes | None):
    admin = await world.browser("admin")
    headers = {} if body is None else {"content-type": "application/json"}

    answer = await admin.request(method, path, content=body, headers=headers)

    assert answer.status_code in {200, 400, 404, 422}, answer.text
    if answer.status_code != 200:
        assert answer.json()["code"] in {"not_found", "invalid", "bad_json", "unstorable_text"}
