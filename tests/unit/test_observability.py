"""Logs keep secrets, metrics belong to a server, silence is not health."""

import io
import json
import logging

import pytest
import structlog

from neuropod.kit.secrets import Secret
from neuropod.observability.health import Board
from neuropod.observability.logs import configure, redacted
from neuropod.observability.metrics import Metrics
from support.clocks import ManualClock


@pytest.fixture
def output():
    """What is logged; logging is as it was before, afterwards."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stream = io.StringIO()
    yield stream
    root.handlers, level = before[0], before[1]
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET /lab?token=abc HTTP/1.1", "GET /lab?*** HTTP/1.1"),
        ("http://h:8080/a?x=1&y=2#f", "http://h:8080/a?***"),
        ("/x?justtext", "/x?***"),
        ("really? yes", "really? yes"),
        ("http://h/sign-in/link#0123456789abcdefghij0123", "http://h/sign-in/link#***"),
        ("Authorization: Bearer npk_0123456789", "Authorization: Bearer ***"),
        ("an escape \x1b[31m here", "an escape \ufffd[31m here"),
    ],
)
def test_what_is_cut_from_a_text(text: str, kept: str):
    assert redacted(text) == kept


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_gets_into_a_log_by_any_way(output: io.StringIO, log_format):
    configure(log_format, stream=output)
    log = structlog.get_logger("ours")

    log.info("got http://h/lab?token=SECRET1", password="SECRET2", headers={"Cookie": "a=SECRET3", "x": 1})
    log.info("held", value=Secret("SECRET4"), api_key="SECRET5", urls=["/a?b=SECRET6"])
    logging.getLogger("theirs").warning("%s Bearer SECRET789", "GET /x?y=SECRET8")
    try:
        raise ValueError("no answer from http://h/?token=SECRET9")
    except ValueError:
        log.exception("it failed")
        logging.getLogger("theirs").exception("it failed")

    assert "SECRET" not in output.getvalue()
    assert output.getvalue().count("it failed") == 2
    assert "ValueError: no answer from http://h/?***" in output.getvalue()


def test_an_event_is_one_line_whatever_is_in_it(output: io.StringIO):
    configure("json", stream=output)

    structlog.get_logger().info("a pod is called\nb", name="x\ny")
    configure("text", stream=output)
    structlog.get_logger().info("again\n2026-01-01 [error] forged")

    first, second = output.getvalue().splitlines()
    assert json.loads(first)["name"] == "x\ny"
    assert "forged" in second


def test_servers_do_not_share_metrics():
    one, two = Metrics(), Metrics()

    one.counter("launches_total", "Launches.").inc()
    two.counter("launches_total", "Launches.")

    assert b"neuropod_launches_total 1.0" in one.render()
    assert b"neuropod_launches_total 0.0" in two.render()


def test_asking_twice_gives_the_same_metric_and_never_one_of_another_kind():
    metrics = Metrics()

    first = metrics.histogram("pass_seconds", "Passes.", ("loop",))

    assert metrics.histogram("pass_seconds", "Passes.", ("loop",)) is first
    with pytest.raises(TypeError):
        metrics.gauge("pass_seconds", "Passes.")


async def test_a_part_that_falls_silent_is_not_ok():
    clock = ManualClock()
    board = Board(clock)
    board.expect("pods")
    board.expect("sweeps", needed=False)
    before = board.ready

    board.report("pods", ok=True, good_seconds=10)
    ready = board.ready
    await clock.advance(11)

    assert (before, ready, board.ready) == (False, True, False)
    pods, sweeps = board.parts()
    assert pods.message.startswith("no report for 11 s")
    assert (sweeps.ok, sweeps.needed) == (False, False)
