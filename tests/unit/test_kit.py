"""The small tools of kit."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.kit.errors import InvalidInputError
from neuropod.kit.identifiers import is_pod_name, new_id, user_hash
from neuropod.kit.keyfile import KeyFileError, read_key, read_or_make_key
from neuropod.kit.lockfile import LockedError, exclusive, is_locked
from neuropod.kit.money import decimal_text, micros
from neuropod.kit.paging import decode_cursor, encode_cursor, page_of
from neuropod.kit.secrets import Secret, SecretBox, WrongKeyError


@given(st.text())
def test_a_pod_name_always_makes_one_dns_label(name):
    if is_pod_name(name):
        assert len(f"{name}-{user_hash('anybody')}-65535") <= 63
        assert name.isascii()
        assert name == name.lower()


@pytest.mark.parametrize("name", ["", "-a", "a-", "1a", "A", "a_b", "a.b", "a" * 41, "a\n", "ä"])
def test_a_name_that_breaks_the_rule_is_no_pod_name(name):
    assert not is_pod_name(name)


def test_ids_made_later_sort_later():
    ids = [new_id("pod") for _ in range(1000)]  # many in each millisecond

    assert len(set(ids)) == 1000
    assert ids == sorted(ids)


def test_ids_rise_also_when_the_clock_is_set_back(monkeypatch):
    before = new_id("pod")
    monkeypatch.setattr("neuropod.kit.identifiers.time.time_ns", lambda: 0)

    assert new_id("pod") > before


@given(st.integers(-(10**15), 10**15))
def test_money_reads_back_as_it_was_shown(amount):
    assert micros(decimal_text(amount)) == amount


def test_money_of_more_than_six_decimals_is_refused():
    with pytest.raises(ValueError, match="six decimals"):
        micros("0.0000001")


@given(st.lists(st.one_of(st.text(), st.integers()), min_size=1, max_size=3))
def test_a_cursor_reads_back_as_it_was_made(key):
    assert decode_cursor(encode_cursor(*key), len(key)) == key


@given(st.text())
def test_a_foreign_cursor_is_a_clear_error(text):
    try:
        key = decode_cursor(text, 2)
    except InvalidInputError as error:
        assert [field.field for field in error.fields] == ["cursor"]
    else:
        assert len(key) == 2


def test_the_last_page_has_no_cursor():
    assert page_of([1, 2], 2, lambda row: (row,)).next_cursor is None
    assert list(page_of([1, 2, 3], 2, lambda row: (row,)).items) == [1, 2]


def test_a_secret_does_not_print_itself():
    secret = Secret("hunter2")

    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {{'a': secret}}"


def test_a_sealed_secret_opens_only_in_its_place_and_with_its_key():
    key = SecretBox.new_key()
    sealed = SecretBox(key).seal(Secret("hunter2"), place="pods/one/token")

    assert SecretBox(key).open(sealed, place="pods/one/token").reveal() == "hunter2"
    with pytest.raises(WrongKeyError):
        SecretBox(key).open(sealed, place="pods/two/token")
    with pytest.raises(WrongKeyError):
        SecretBox(SecretBox.new_key()).open(sealed, place="pods/one/token")


def test_a_key_file_is_made_once_and_for_the_owner_alone(tmp_path: Path):
    path = tmp_path / "data.key"

    key = read_or_make_key(path)

    assert read_or_make_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("content", "mode"), [("", 0o600), ("short", 0o600), ("A" * 44, 0o644)])
def test_a_key_file_that_cannot_be_trusted_is_refused(tmp_path: Path, content: str, mode: int):
    path = tmp_path / "data.key"
    path.write_text(content)
    path.chmod(mode)

    with pytest.raises(KeyFileError, match=str(path)):
        read_key(path)


HOLD = """
import sys
from pathlib import Path
from neuropod.kit.lockfile import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_against_other_processes_and_freed_by_their_death(tmp_path: Path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(LockedError) as caught, exclusive(path):
            pass
        holder.kill()
        holder.wait()

    assert caught.value.pid == holder.pid
    assert not is_locked(path)
