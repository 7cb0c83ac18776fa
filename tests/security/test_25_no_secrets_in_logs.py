"""SECURITY 25: what stands in a query, a cookie or a header of a request is in no log, whatever becomes of it.

That events and audit rows hold none of it is the end-to-end tests' to look at, where there are some.
"""

import logging

import pytest
import structlog

from neuropod.gateway.gate import Credential
from neuropod.words import Access, Status
from support.gateway import answering, parse, read_request, serving

TOKEN = "the-jupyter-token-0123456789"
KEY = "the-api-key-of-somebody-0123456789"


@pytest.fixture
def logged(caplog):
    """Return all that was logged, by structlog and by the standard library, at any level."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []

    def keep(_, __, event):
        lines.append(repr(event))
        raise structlog.DropEvent

    earlier = structlog.get_config()
    structlog.configure(processors=[structlog.processors.format_exc_info, keep], cache_logger_on_first_use=False)
    yield lambda: "\n".join([*lines, *(record.getMessage() + (record.exc_text or "") for record in caplog.records)])
    structlog.configure(**earlier)


async def test_no_request_leaves_its_secrets_in_a_log(logged):
    async def dies(reader, writer):
        await read_request(reader)

    async def breaks(reader, writer):
        await read_request(reader)
        writer.write(b"nonsense\r\n\r\n")

    async with serving() as served:
        served.key(KEY)
        routes = [
            await served.pod(answering(), "ok"),
            await served.pod(answering(), "public", access=Access.PUBLIC),
            await served.pod(answering(), "stopped", incarnation=None, status=Status.STOPPED),
            await served.pod(dies, "dies"),
            await served.pod(breaks, "breaks"),
            await served.pod(answering(), "other", owner_id="usr_other"),
        ]
        for route in routes:
            cookie = served.signed_in(route)
            for key in (KEY, None):
                await served.ask(route, f"GET /lab?token={TOKEN} HTTP/1.1", "Accept: text/html", f"Cookie: a={TOKEN}; {cookie}", "Sec-Fetch-Site: none", key=key)  # fmt: skip
        await served.raw(f"GET http://x/?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await served.raw(
            f"GET /?token={TOKEN} HTTP/9.9\r\nHost: {routes[0].host}\r\nX-Neuropod-Key: {KEY}\r\n\r\n".encode()
        )
        await served.raw(
            f"GET /?token={TOKEN} HTTP/1.1\r\nHost: app.neuropod.localhost\r\nConnection: close\r\n\r\n".encode()
        )
        _break_doorkeeper(served)
        answer = await served.ask(routes[0], f"GET /?token={TOKEN} HTTP/1.1", key="another-" + KEY)

        assert answer.status == 500
        assert "a request on a pod's host failed" in logged()
        for secret in (TOKEN, KEY, cookie.partition("=")[2]):
            assert secret not in logged()


def _break_doorkeeper(served):
    async def fails(credential):
        raise RuntimeError(f"a defect with {credential!r}")

    served.gateway.gate.doorkeeper.identify = fails


async def test_the_first_requests_path_and_query_are_in_no_url_and_no_page_of_the_gate():
    async with serving() as served:
        route = await served.pod(answering())

        away = await served.ask(route, f"GET /lab?token={TOKEN} HTTP/1.1", "Accept: text/html", key=None)
        refused = await served.ask(route, f"GET /lab?token={TOKEN} HTTP/1.1", key=None)
        stopped = await served.ask(served.serve(route, incarnation=None, status=Status.STOPPED, access=Access.PUBLIC), f"GET /lab?token={TOKEN} HTTP/1.1", "Accept: text/html")  # fmt: skip

        for answer in (away, refused, stopped):
            assert TOKEN.encode() not in answer.raw
            assert answer["referrer-policy"] == "no-referrer"


async def test_uvicorn_logs_no_request():
    async with serving() as served:
        served.key()
        assert (
            parse(
                await served.raw(b"GET /?q HTTP/1.1\r\nHost: app.neuropod.localhost\r\nConnection: close\r\n\r\n")
            ).status
            == 200
        )

        assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_credentials_do_not_print_themselves():
    assert KEY not in repr(Credential(key=KEY, pass_value=KEY))
