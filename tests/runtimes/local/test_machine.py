"""What a machine can isolate is found by trying, and said guarantee by guarantee."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.local import cgroups, machine
from neuropod.runtimes.local.cgroups import CgroupLayout
from neuropod.runtimes.local.machine import Machine, probe, report_of
from neuropod.runtimes.local.tools import Tools
from neuropod.settings import LocalSettings
from runtimes.local import lab
from support.programs import machine_tools

NAMES = ["files", "processes", "ports", "egress", "memory", "cpu", "pids", "disk"]
ROOT = os.geteuid() == 0


@pytest.fixture
def installation() -> Iterator[str]:
    """An installation of which no group is left."""
    name = f"test-{secrets.token_hex(4)}"
    yield name
    cgroups.uninstall(cgroups.find_layout(name))


def held(found: Machine) -> set[str]:
    report = report_of(found)
    assert [each.name for each in report.guarantees] == NAMES
    assert all(each.message.endswith(".") for each in report.guarantees)
    return {each.name for each in report.guarantees if each.holds}


@pytest.mark.root
def test_as_root_all_eight_hold(tmp_path: Path, installation: str):
    found = probe(LocalSettings(), machine_tools(), installation=installation, data_dir=tmp_path)

    assert found.mode == "root"
    assert found.loop_mounts
    assert held(found) == set(NAMES)
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert found.problems == ()


@pytest.mark.root
def test_trying_leaves_nothing_behind(tmp_path: Path, installation: str):
    found = probe(LocalSettings(), machine_tools(), installation=installation, data_dir=tmp_path)

    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert [path.name for path in (tmp_path / "disks").iterdir() if path.name != ".blank"] == []
    assert "trial" not in {entry.name for root in found.cgroups.folders for entry in os.scandir(root)}


@pytest.mark.user
def test_as_a_user_strangers_are_kept_apart_and_what_is_not_limited_is_said(tmp_path: Path):
    found = probe(LocalSettings(), machine_tools(), installation="test-user", data_dir=tmp_path)

    assert (found.mode, found.tun) == ("user", True)
    limited = set(found.cgroups.roots) & {"memory", "cpu", "pids"}
    assert held(found) == {"files", "processes", "ports", "egress"} | limited
    disk = report_of(found).guarantees[-1]
    assert "measured" in disk.message


@pytest.mark.root
@pytest.mark.user
def test_a_mode_that_is_named_and_cannot_be_had_fails_with_the_reason(tmp_path: Path):
    other = LocalSettings(mode="user" if ROOT else "root")

    with pytest.raises(RuntimeUnavailableError, match=f"mode {other.mode} here: This server"):
        probe(other, machine_tools(), installation="test-x", data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.user
@pytest.mark.parametrize("lacking", ["bwrap", "nft"])
def test_a_machine_that_lacks_a_program_isolates_nothing_and_says_which(tmp_path: Path, lacking: str):
    some = machine_tools().as_json() | {lacking: []}

    found = probe(LocalSettings(), Tools.from_json(some), installation="test-x", data_dir=tmp_path)

    assert found.mode == "none"
    assert held(found) == set()
    name = "bubblewrap" if lacking == "bwrap" else "nft"
    assert name in " ".join(found.problems)
    assert report_of(found).notes == found.problems
    settings = LocalSettings(mode="root" if ROOT else "user")
    with pytest.raises(RuntimeUnavailableError, match=name):
        probe(settings, Tools.from_json(some), installation="test-x", data_dir=tmp_path)


@pytest.mark.root
@pytest.mark.user
def test_a_machine_that_refuses_namespaces_isolates_nothing_and_passes_on_what_it_said(tmp_path: Path):
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    some = machine_tools().as_json() | {"bwrap": [str(refusing)]}

    found = probe(LocalSettings(), Tools.from_json(some), installation="test-x", data_dir=tmp_path)

    assert found.mode == "none"
    assert "No permissions to create new namespace" in " ".join(found.problems)


@pytest.mark.root
def test_where_images_cannot_be_mounted_disks_are_said_to_be_measured(tmp_path: Path, installation: str):
    some = machine_tools().as_json() | {"mkfs_ext4": ["/bin/false"]}

    found = probe(LocalSettings(), Tools.from_json(some), installation=installation, data_dir=tmp_path)

    assert (found.mode, found.loop_mounts) == ("root", False)
    assert held(found) == set(NAMES) - {"disk"}
    assert any(problem.startswith("Images cannot be mounted") for problem in found.problems)


async def beside_a_strict_firewall(work: Path) -> None:
    tools = machine_tools()
    rules = "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }"
    subprocess.run([*tools.nft, "-f", "-"], input=rules, text=True, check=True)

    found = probe(LocalSettings(), tools, installation=f"test-{secrets.token_hex(4)}", data_dir=work)

    assert found.mode == "root"
    assert len(found.problems) == 1, found.problems
    assert "table ip filter drops what is forwarded" in found.problems[0]
    assert "np+" in found.problems[0]
    cgroups.uninstall(found.cgroups)


@pytest.mark.root
def test_a_firewall_that_would_keep_pods_from_the_internet_is_named(tmp_path: Path):
    lab.in_lab(tmp_path, "test_machine", "beside_a_strict_firewall")


def test_without_isolation_nothing_is_claimed(tmp_path: Path):
    found = probe(LocalSettings(mode="none"), Tools(), installation="test-x", data_dir=tmp_path)

    assert (found.mode, held(found)) == ("none", set())


def a_machine(**facts: object) -> Machine:
    layout = CgroupLayout(0, {}, {"memory": "no control group is delegated to this user"})
    values = {
        "mode": "user", "machine_id": "m", "boot_id": "b", "tools": Tools(), "cgroups": layout, "tun": False,
        "loop_mounts": False, "problems": (),
    }  # fmt: skip
    return Machine(**(values | facts))  # type: ignore[arg-type]


def test_a_missing_way_to_the_internet_and_missing_controllers_are_told_in_their_rows():
    rows = {each.name: each for each in report_of(a_machine()).guarantees}

    assert "/dev/net/tun" in rows["egress"].message
    assert rows["memory"].message == "Not limited: no control group is delegated to this user."
    assert not rows["memory"].holds


def test_a_machine_has_an_id_of_this_boot():
    assert machine.boot_id() == machine.boot_id() != ""
