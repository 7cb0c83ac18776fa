"""Jupyter's token: found in a log where the image makes it, put into a link where it is ours."""

from neuropod.kit.secrets import Secret
from neuropod.pods.jupyter import new_jupyter_token, signed_in_path, token_from_log

HEX = "0123456789abcdef" * 3


def test_the_token_is_found_in_the_line_that_jupyter_prints():
    lines = [
        "[I 2026-01-01 12:00:00.000 ServerApp] Jupyter Server 2.21.1 is running at:",
        f"[I 2026-01-01 12:00:00.000 ServerApp] http://lab:8888/lab?token={HEX}",
        "[I 2026-01-01 12:00:00.000 ServerApp]     http://127.0.0.1:8888/lab?token=" + "f" * 48,
    ]

    token = token_from_log(lines)

    assert token == Secret(HEX)


def test_other_lines_hold_none():
    assert token_from_log([]) is None
    assert token_from_log(["token=" + HEX, "http://x/lab?token=", "http://x/lab?token=...", "http://x/?a=b"]) is None


def test_a_token_of_ours_needs_no_escape_in_a_link_and_a_foreign_one_cannot_leave_it():
    token = new_jupyter_token()

    assert signed_in_path(token) == f"/lab?token={token.reveal()}"
    assert signed_in_path(Secret("a&b=c#d")) == "/lab?token=a%26b%3Dc%23d"
