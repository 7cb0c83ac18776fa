"""The shim's end of the control socket."""

from pathlib import Path

from neuropod.runtimes.local.control import ControlServer, dial, listen
from neuropod.runtimes.local.loop import Loop


def test_the_end_of_a_log_reaches_a_follower_who_let_nudges_pile_up(tmp_path: Path):
    loop = Loop()
    server = ControlServer(loop, listen(tmp_path), on_request=lambda *_: None)
    server.start()
    follower = dial(tmp_path, {"op": "follow"})
    heard = bytearray()

    def flood() -> None:
        if not server.followers:
            loop.call_later(0.01, flood)
            return
        for _ in range(10_000):
            server.nudge_followers()
        server.nudge_followers(ended=True)
        loop.add_reader(follower.fileno(), hear)

    def hear() -> None:
        heard.extend(follower.recv(1 << 16))
        if b"E" in heard:
            loop.stop()

    try:
        loop.call_later(0, flood)
        loop.call_later(30, loop.stop)
        loop.run()
    finally:
        server.close()
        follower.close()

    assert 1 < len(heard) < 10_000  # else the buffer never was full, and this test shows nothing
    assert heard.endswith(b"E")
