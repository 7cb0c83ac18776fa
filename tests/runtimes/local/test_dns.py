"""The pods' name server: what it asks, what it refuses, and messages that are not what they should be."""

import socket
from pathlib import Path

import pytest

from neuropod.runtimes.local import dnswords
from neuropod.runtimes.local.rootnet import resolvers
from runtimes.local import world


def question(name: str, *, kind: int = 1, edns: int | None = None) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    additional = b"" if edns is None else b"\0\0\x29" + edns.to_bytes(2) + bytes(6)
    head = b"\xab\xcd\x01\0\0\1\0\0\0\0" + (b"\0\0" if edns is None else b"\0\1")
    return head + labels + b"\0" + kind.to_bytes(2) + b"\0\1" + additional


def answer(asked: bytes, *addresses: str) -> bytes:
    records = b""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        data = socket.inet_pton(family, address)
        kind = b"\0\x1c" if ":" in address else b"\0\1"
        records += b"\xc0\x0c" + kind + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2) + data
    return asked[:2] + b"\x81\x80\0\1" + len(addresses).to_bytes(2) + bytes(4) + asked[12:] + records


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        (["93.184.216.34"], False), (["2606:2800::1"], False), ([], False), (["10.0.0.1"], True),
        (["93.184.216.34", "192.168.0.1"], True), (["fd00::1"], True), (["::ffff:127.0.0.1"], True),
    ],
)  # fmt: skip
def test_answers_with_private_addresses_are_refused(addresses: list[str], refused: bool):
    assert dnswords.has_refused_address(answer(question("a.example"), *addresses), ()) is refused


def test_addresses_that_are_allowed_are_passed_on():
    told = answer(question("nas.example"), "10.1.2.3")

    assert not dnswords.has_refused_address(told, ("10.1.0.0/16",))


def test_what_cannot_be_read_is_not_passed_on():
    told = answer(question("a.example"), "93.184.216.34")

    for length in range(12, len(told)):
        assert dnswords.has_refused_address(told[:length], ()), length
    assert dnswords.has_refused_address(told[:12] + b"\xff" * 40, ())


def test_what_is_not_a_question_is_not_answered():
    good = question("a.example")

    assert dnswords.is_question(good)
    assert not any(dnswords.is_question(good[:length]) for length in range(len(good)))
    assert not dnswords.is_question(answer(good))
    assert not dnswords.is_question(good[:4] + b"\0\2" + good[6:])


def test_an_answer_must_be_to_the_question_that_was_asked():
    asked = question("a.example")

    assert dnswords.answers(asked, answer(question("A.eXample"), "93.184.216.34"))
    assert not dnswords.answers(asked, answer(question("b.example"), "93.184.216.34"))
    assert not dnswords.answers(asked, asked)
    assert not dnswords.answers(asked, b"")


def test_messages_of_a_stream_are_read_one_by_one_however_they_come():
    one, other = question("a.example"), question("b.example")
    stream = dnswords.for_stream(one) + dnswords.for_stream(other)
    first = dnswords.first_of_stream(stream)

    assert [dnswords.first_of_stream(stream[:length]) for length in range(len(one) + 2)] == [None] * (len(one) + 2)
    assert first == (one, dnswords.for_stream(other))
    assert dnswords.first_of_stream(first[1]) == (other, b"")


def test_a_long_answer_is_cut_to_the_word_that_there_is_more():
    plain, roomy = question("a.example"), question("a.example", edns=1400)
    told = answer(plain, *["93.184.216.34"] * 60)

    cut = dnswords.fitting(plain, told)
    assert len(cut) < 512
    assert cut[2] & 2
    assert cut[:2] == plain[:2]
    assert dnswords.fitting(roomy, told) == told


def test_replies_of_our_own_carry_the_question_and_its_number():
    asked = question("a.example")

    for reply, code in ((dnswords.failure(asked), 2), (dnswords.emptied(asked), 0)):
        assert dnswords.answers(asked, reply)
        assert (reply[:2], reply[3] & 15, reply[6:8]) == (asked[:2], code, b"\0\0")


def test_the_hosts_resolvers_are_read_as_they_stand(tmp_path: Path):
    path = tmp_path / "resolv.conf"
    path.write_text("# nameserver 1.1.1.1\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver\nnameserver x\n")

    assert resolvers(path) == ["192.0.2.53", "fe80::1%eth0"]
    assert resolvers(tmp_path / "none") == []


def check(found: dict[str, list]) -> None:
    """The first resolver is silent, so each answer is also the second's turn."""
    assert found["good.example"] == [0, 1]
    assert found["nothing.example"] == [3, 0]
    for refused in ("mixed.example", "metadata.example", "loopback.example", "metadata.example by TCP"):
        assert found[refused] == [0, 0], refused
    assert found["six.example AAAA"] == found["mapped.example AAAA"] == [0, 0]
    assert found["nas.example"] == [0, 1]
    assert found["big.example"] == [0, 0, "truncated"]
    assert found["big.example by TCP"] == [0, 99]


@pytest.mark.root
def test_a_pods_questions_are_answered_by_the_hosts_resolvers_less_what_it_may_not_reach(tmp_path: Path):
    check(world.tried("names_as_root", tmp_path / "work"))


@pytest.mark.user
def test_in_user_mode_too(tmp_path: Path):
    check(world.tried("names_as_user", tmp_path / "work"))
