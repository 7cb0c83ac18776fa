"""The connection: what is sent again and what never, errors by name, localhost names, streams."""

import http.server
import threading
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.client.connection import Connection
from neuropod.client.errors import NotNeuropodError, UnreachableError
from neuropod.client.localhost import is_loopback
from neuropod.client.pods import Pods
from neuropod.client.sse import ServerSentEvent, events, lines
from neuropod.kit.errors import ConflictError, InvalidInputError, ThrottledError, UnauthenticatedError, UnavailableError
from neuropod.wire.pods import PodCreate, PodPage
from support.commands import KEY, URL, PlayedServer, pod_json, problem


@pytest.fixture
def connection(played: PlayedServer) -> Iterator[Connection]:
    connection = Connection(URL, KEY, transport=httpx.MockTransport(played), sleep=lambda _: None)
    yield connection
    connection.close()


def test_a_read_is_tried_again_until_the_server_is_back(connection, played):
    played.on("GET", "/pods/lab", httpx.ReadError("cut"), problem(503, "unavailable", "soon"), pod_json())

    assert Pods(connection).show_pod("lab").name == "lab"
    assert len(played.requests) == 3


def test_a_restart_is_sent_once_since_the_second_would_be_another(connection, played):
    played.on("POST", "/pods/lab/restart", httpx.ReadError("cut"), pod_json())

    with pytest.raises(UnreachableError):
        Pods(connection).restart_pod("lab")
    assert len(played.requests) == 1


def test_what_never_left_is_sent_again_whatever_it_is(connection, played):
    played.on("POST", "/pods/lab/restart", httpx.ConnectError("refused"), pod_json())

    assert Pods(connection).restart_pod("lab").name == "lab"


def test_a_creation_is_sent_again_under_the_same_key(connection, played):
    played.on("POST", "/pods", httpx.ReadError("cut"), pod_json())

    Pods(connection).create_pod(PodCreate(name="lab", template="jupyterlab"))

    keys = {request.headers["Idempotency-Key"] for request in played.requests}
    assert (len(played.requests), len(keys)) == (2, 1)


def test_no_answer_ends_as_unreachable_after_a_few_tries(connection, played):
    played.on("GET", "/pods/lab", httpx.ConnectError("Connection refused"))

    with pytest.raises(UnreachableError, match="connection refused"):
        Pods(connection).show_pod("lab")
    assert len(played.requests) == 3


def test_errors_come_back_as_what_they_are(connection, played):
    wrong = {"field": "name", "code": "name", "message": "must be a name"}
    played.on("GET", "/pods/a", problem(409, "name_taken", "taken"))
    played.on("GET", "/pods/b", problem(422, "invalid", "wrong", [wrong]))
    played.on("GET", "/pods/c", problem(401, "unauthenticated", "who?"))
    throttled = problem(429, "throttled", "slowly")
    throttled.headers["Retry-After"] = "7"
    played.on("GET", "/pods/d", throttled)
    pods = Pods(connection)

    with pytest.raises(ConflictError) as conflict:
        pods.show_pod("a")
    with pytest.raises(InvalidInputError) as invalid:
        pods.show_pod("b")
    with pytest.raises(UnauthenticatedError):
        pods.show_pod("c")
    with pytest.raises(ThrottledError) as later:
        pods.show_pod("d")
    assert conflict.value.code == "name_taken"
    assert [one.field for one in invalid.value.fields] == ["name"]
    assert later.value.retry_after_seconds == 7


def test_something_else_at_the_address_is_not_taken_for_neuropod(connection, played):
    played.on("GET", "/pods/a", httpx.Response(200, text="<html>router</html>"))
    played.on("GET", "/pods/b", httpx.Response(404, text="<html>router</html>"))
    played.on("GET", "/pods/c", httpx.Response(502, text="<html>proxy</html>"))

    for name, error in (("a", NotNeuropodError), ("b", NotNeuropodError), ("c", UnavailableError)):
        with pytest.raises(error):
            Pods(connection).show_pod(name)


def test_a_redirect_is_not_followed_with_the_key(connection, played):
    played.on("GET", "/pods/lab", httpx.Response(302, headers={"Location": "http://evil.example/"}))

    with pytest.raises(NotNeuropodError):
        Pods(connection).show_pod("lab")
    assert {request.url.host for request in played.requests} == {"app.neuropod.localhost"}


def test_a_name_stays_one_segment_of_the_path(connection, played):
    with pytest.raises(Exception, match="no GET"):
        Pods(connection).show_pod("../../me?x")

    assert played.requests[0].url.raw_path == b"/api/v1/pods/..%2F..%2Fme%3Fx"


def test_all_pages_are_read_and_no_more_than_asked_for(connection, played):
    first = {"items": [pod_json(name="a"), pod_json(name="b")], "next_cursor": "c1"}
    second = {"items": [pod_json(name="c")], "next_cursor": None}
    played.on("GET", "/pods", first, second)

    assert [pod.name for pod in connection.pages(PodPage, "/pods")] == ["a", "b", "c"]
    assert played.requests[1].url.params["cursor"] == "c1"
    played.requests.clear()
    played.on("GET", "/pods", first)
    assert [pod.name for pod in connection.pages(PodPage, "/pods", limit=2)] == ["a", "b"]
    assert [request.url.params["limit"] for request in played.requests] == ["2"]


# Names below localhost


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.headers["Host"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


def test_names_below_localhost_reach_this_machine_with_their_host(monkeypatch):
    server = http.server.HTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nothing is there, and it is not asked
    try:
        connection = Connection(f"http://app.some-name.localhost:{server.server_port}", None)
        answer = connection.send("GET", "/me")
        connection.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert answer.text == f"app.some-name.localhost:{server.server_port}"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("app.neuropod.localhost", True),
        ("127.0.0.2", True),
        ("[::1]", True),
        ("localhost.example.org", False),
        ("notlocalhost", False),
        ("10.0.0.1", False),
    ],
)
def test_which_hosts_are_this_machine(host, here):
    assert is_loopback(host) is here


# Server-Sent Events

STREAM = (
    b": hello\n\n"
    b'event: line\nid: 1.0\ndata: {"a":1}\n\n'
    b"data: two\ndata: lines\n\n"
    b"event: end\ndata:no space\n\n"
    b"event: cut\ndata: off"
)
EXPECTED = [
    ServerSentEvent("line", '{"a":1}', "1.0"),
    ServerSentEvent("message", "two\nlines", "1.0"),
    ServerSentEvent("end", "no space", "1.0"),
]


@given(st.lists(st.integers(0, len(STREAM))), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_the_same_however_the_stream_is_cut_into_chunks(cuts, end):
    stream = STREAM.replace(b"\n", end)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    chunks = [stream[a:b] for a, b in pairwise(places)]

    assert list(events(chunks)) == EXPECTED


def test_only_line_ends_end_a_line():
    text = "a\u2028b\x85c\x0bd"

    assert list(lines([f"{text}\n".encode()])) == [text]
