"""What a machine can isolate: found by trying here, and what is said of machines that can do less."""

import os
from pathlib import Path

import pytest

from neuropod.kit.identifiers import new_id
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.local import cgroups
from neuropod.runtimes.local.cgroups import CgroupLayout
from neuropod.runtimes.local.machine import Machine, boot_id, probe, report_of
from neuropod.runtimes.local.tools import Tools, find_tools
from neuropod.settings import LocalSettings

ALL = {"files", "processes", "ports", "egress", "memory", "cpu", "pids", "disk"}
LAYOUT = CgroupLayout(1, {"memory": "/m", "cpu": "/c", "pids": "/p"}, {})
NO_LAYOUT = CgroupLayout(0, {}, dict.fromkeys(("memory", "cpu", "pids"), "nothing is delegated"))


def a_machine(mode: str, **changes) -> Machine:
    facts = {
        "mode": mode, "machine_id": "m", "boot_id": "b", "tools": Tools(), "cgroups": NO_LAYOUT, "tun": False,
        "loop_mounts": False, "problems": (),
    }  # fmt: skip
    return Machine(**facts | changes)


def held(machine: Machine) -> set[str]:
    report = report_of(machine)
    assert [each.name for each in report.guarantees] == [
        "files", "processes", "ports", "egress", "memory", "cpu", "pids", "disk",
    ]  # fmt: skip
    assert all(each.message for each in report.guarantees)
    return {each.name for each in report.guarantees if each.holds}


def probed(tmp_path: Path, mode: str = "auto", tools: Tools | None = None) -> Machine:
    installation = new_id("inst")
    found = tools or find_tools(tmp_path / "cache")
    machine = probe(LocalSettings(mode=mode), found, installation=installation, data_dir=tmp_path / "data")
    cgroups.uninstall(machine.cgroups)
    return machine


def test_each_mode_says_what_it_holds():
    assert held(a_machine("root", cgroups=LAYOUT, loop_mounts=True)) == ALL
    assert held(a_machine("root")) == {"files", "processes", "ports", "egress"}
    assert held(a_machine("user", tun=True)) == {"files", "processes", "ports", "egress"}
    assert held(a_machine("user", cgroups=LAYOUT)) == ALL - {"disk"}
    assert held(a_machine("none")) == set()


def test_what_lacks_is_said_with_its_reason():
    report = report_of(a_machine("user", problems=("As root: no.",)))
    said = {each.name: each.message for each in report.guarantees}

    assert "nothing is delegated" in said["memory"]
    assert "no way to the internet" in said["egress"]
    assert "pasta" in {each.name: each.message for each in report_of(a_machine("user", tun=True)).guarantees}["egress"]
    assert report.notes == ("As root: no.",)


@pytest.mark.root
def test_as_root_this_machine_holds_all_eight(tmp_path: Path):
    machine = probed(tmp_path)

    assert machine.mode == "root"
    assert held(machine) == ALL
    assert machine.boot_id == boot_id()
    assert not list((tmp_path / "data/disks").glob(".trial*"))


@pytest.mark.user
def test_as_a_user_this_machine_holds_the_four_that_matter_most(tmp_path: Path):
    machine = probed(tmp_path)

    assert machine.mode == "user"
    assert machine.tun
    assert {"files", "processes", "ports", "egress"} <= held(machine)
    assert "disk" not in held(machine)


def test_without_bubblewrap_nothing_is_kept_apart_and_that_is_said(tmp_path: Path):
    machine = probed(tmp_path, tools=Tools())

    assert machine.mode == "none"
    assert held(machine) == set()
    assert machine.problems


def test_a_mode_that_is_named_and_cannot_be_had_fails_with_the_reason(tmp_path: Path):
    other = "user" if os.geteuid() == 0 else "root"

    with pytest.raises(RuntimeUnavailableError, match="as root"):
        probed(tmp_path, other)
    with pytest.raises(RuntimeUnavailableError, match=r"not on this machine"):
        probed(tmp_path, "root" if os.geteuid() == 0 else "user", tools=Tools())


def test_none_is_had_everywhere(tmp_path: Path):
    assert probed(tmp_path, "none").mode == "none"
