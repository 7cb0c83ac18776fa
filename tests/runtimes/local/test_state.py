"""State files: who is believed, and what a forged or foreign one means."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.runtimes.contract import Phase
from neuropod.runtimes.local.owners import FIRST_UID, Owners
from neuropod.runtimes.local.seen import seen_of
from neuropod.runtimes.local.state import ProcessId, State, boot_id, read_state, write_state
from neuropod.words import Reason


def a_state(**changes: object) -> State:
    me = ProcessId.of(os.getpid())
    return replace(State("inst_1", "pod_1", 3, boot_id(), me.pid, me.start_time, taken=True), **changes)


def test_a_written_state_is_read_again(tmp_path: Path):
    state = a_state(phase="ready", progress={"step": "x", "done": 1, "total": 2, "unit": "packages"})

    write_state(tmp_path, state)

    assert read_state(tmp_path) == state
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_state_of_a_newer_version_is_read_without_what_is_new(tmp_path: Path):
    write_state(tmp_path, a_state())
    value = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(value | {"invented_later": 1}))

    assert read_state(tmp_path) == a_state()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pod": "pod_1"}'])
def test_a_state_that_cannot_be_understood_is_an_error_of_its_own(tmp_path: Path, text: str):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(ValueError, match=r"state\.json"):
        read_state(tmp_path)


def test_a_process_with_the_number_but_another_start_time_is_not_the_shim():
    me = ProcessId.of(os.getpid())

    assert me.alive
    assert not ProcessId(me.pid, me.start_time - 1).alive


def test_a_zombie_is_dead():
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    zombie = ProcessId.of(child.pid)

    assert not zombie.alive
    child.wait()


def test_a_state_of_another_boot_is_lost_although_such_a_process_runs():
    state = a_state(phase="ready", boot_id="another-boot", started_at=5.0)

    seen = seen_of(state, shim_lives=state.shim_lives(this_boot=boot_id()))

    assert seen is not None
    assert (seen.phase, seen.reason, seen.finished_at) == (Phase.EXITED, Reason.LOST, None)


def test_a_shim_that_died_before_it_had_its_plan_left_nothing():
    assert seen_of(a_state(taken=False), shim_lives=False) is None
    pending = seen_of(a_state(taken=False), shim_lives=True)
    assert pending is not None
    assert pending.phase is Phase.PENDING


def test_what_ended_in_order_stays_as_it_was_told_without_its_shim():
    seen = seen_of(a_state(phase="exited", reason="crashed", exit_code=3, finished_at=7.0), shim_lives=False)

    assert seen is not None
    assert (seen.phase, seen.reason, seen.exit_code) == (Phase.EXITED, Reason.CRASHED, 3)


def test_every_owner_has_a_uid_of_his_own_for_ever(tmp_path: Path):
    owners = Owners(tmp_path, "inst_1")

    first, second = owners.uid_of("usr_1"), owners.uid_of("usr_2")

    assert first != second
    assert min(first, second) >= FIRST_UID
    assert Owners(tmp_path, "inst_1").uid_of("usr_1") == first
    assert Owners(tmp_path, "inst_1").uid_of("usr_3") not in {first, second}


def test_two_installations_give_away_different_numbers(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    assert Owners(tmp_path / "a", "inst_1").uid_of("usr_1") != Owners(tmp_path / "b", "inst_2").uid_of("usr_1")
