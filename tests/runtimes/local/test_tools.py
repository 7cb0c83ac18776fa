"""Programs: found on the system or in the cache, fetched from package sources, run with nothing around them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuropod.runtimes.local.tools import ToolFailedError, Tools, ToolsMissingError, fetch_tools, find_tools, run

PACKAGES = {
    "bubblewrap": ["usr/bin/bwrap"],
    "passt": ["usr/bin/pasta"],
    "nftables": ["usr/sbin/nft"],
    "util-linux": ["usr/bin/setpriv"],
    "e2fsprogs": ["sbin/mkfs.ext4", "sbin/resize2fs", "sbin/e2fsck"],
    "coreutils": ["bin/rm", "bin/chmod", "usr/bin/du"],
}


def a_program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {path.name} of the cache\n")
    path.chmod(0o755)


@pytest.fixture
def source(tmp_path: Path) -> list[str]:
    """Make a package source in a folder and return the options that let apt know it and nothing else."""
    repository, etc = tmp_path / "source", tmp_path / "etc"
    repository.mkdir()
    etc.mkdir()
    index = []
    for package, programs in PACKAGES.items():
        tree = tmp_path / "trees" / package
        for program in programs:
            a_program(tree / program)
        needs = "Depends: libneeded\n" if package == "nftables" else ""
        index.append(_build(repository, tree, package, needs))
    library = tmp_path / "trees" / "libneeded"
    (library / "usr/lib").mkdir(parents=True)
    (library / "usr/lib/needed").write_text("here")
    index.append(_build(repository, library, "libneeded", ""))
    (repository / "Packages").write_text("\n".join(index))
    (etc / "sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    (tmp_path / "status").touch()
    (tmp_path / "state").mkdir()
    chosen = {
        "Dir::Etc::SourceList": etc / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Status": tmp_path / "status",
        "Dir::State::Lists": tmp_path / "state",
    }
    return [word for name, value in chosen.items() for word in ("-o", f"{name}={value}")]


def _build(repository: Path, tree: Path, package: str, needs: str) -> str:
    control = (
        f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@example.com>\n{needs}Description: t\n"
    )
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(control)
    archive = repository / f"{package}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, archive], check=True, capture_output=True)
    digest = subprocess.run(["sha256sum", archive], check=True, capture_output=True, text=True).stdout.split()[0]
    return f"{control}Filename: ./{archive.name}\nSize: {archive.stat().st_size}\nSHA256: {digest}\n"


def test_what_the_system_has_is_taken_from_there(tmp_path: Path):
    a_program(tmp_path / "system/bwrap")
    a_program(tmp_path / "cache/bubblewrap/usr/bin/bwrap")

    found = find_tools(tmp_path / "cache", system=(str(tmp_path / "system"),))

    assert found.bwrap == (str(tmp_path / "system/bwrap"),)
    assert found.nft == ()


def test_what_a_server_of_roots_or_a_users_lacks_is_told():
    nothing = Tools()

    assert "mkfs.ext4" in nothing.missing(root=True)
    assert "pasta" not in nothing.missing(root=True)
    assert "pasta" in nothing.missing(root=False)
    assert "mkfs.ext4" not in nothing.missing(root=False)


def test_tools_survive_the_way_through_json_and_so_do_those_of_a_later_version():
    tools = Tools(bwrap=("/ld.so", "--library-path", "/x", "/bwrap"))

    assert Tools.from_json(tools.as_json()) == tools
    assert Tools.from_json(tools.as_json() | {"new": ["/new"]}) == tools


def test_what_lacks_is_fetched_with_what_it_needs_and_runs(tmp_path: Path, source: list[str]):
    cache = tmp_path / "cache"

    tools = fetch_tools(cache, system=("/nowhere",), apt_options=source)

    assert tools.missing(root=os.geteuid() == 0) == ()
    assert tools == find_tools(cache, system=("/nowhere",)) == fetch_tools(cache, system=("/nowhere",))
    assert run(tools.nft) == "nft of the cache\n"
    assert (cache / "nftables/usr/lib/needed").read_text() == "here"
    assert not list(cache.glob(".coming-*"))


def test_what_cannot_be_fetched_is_named_and_leaves_nothing_half(tmp_path: Path, source: list[str]):
    (tmp_path / "source/nftables.deb").unlink()
    cache = tmp_path / "cache"

    with pytest.raises(ToolsMissingError, match="nftables"):
        fetch_tools(cache, system=("/nowhere",), apt_options=source)

    assert not list(cache.glob(".coming-*"))
    assert not (cache / "nftables").exists()
    assert find_tools(cache, system=("/nowhere",)).nft == ()


@pytest.mark.root
def test_root_runs_nothing_that_others_can_change(tmp_path: Path, source: list[str]):
    cache = tmp_path / "cache"
    a_program(cache / "bubblewrap/usr/bin/bwrap")
    assert find_tools(cache, system=()).bwrap != ()

    for path in (cache, cache / "bubblewrap"):
        path.chmod(0o777)
        assert find_tools(cache, system=()).bwrap == ()
        path.chmod(0o755)
    os.chown(cache, 65534, 65534)

    assert find_tools(cache, system=()).bwrap == ()
    with pytest.raises(ToolsMissingError, match="can be changed by others"):
        fetch_tools(cache, system=("/nowhere",), apt_options=source)


def test_a_program_gets_an_empty_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")

    assert run(["/usr/bin/env"]) == ""


def test_a_program_that_fails_is_told_in_its_own_words():
    with pytest.raises(ToolFailedError, match="sh: oh no"):
        run(["/bin/sh", "-c", "echo oh no >&2; exit 3"])
    with pytest.raises(ToolFailedError, match="/nowhere"):
        run(["/nowhere"])
    with pytest.raises(ToolFailedError, match="not on this machine"):
        run([])
    assert run(["/bin/sh", "-c", "exit 1"], good=frozenset({0, 1})) == ""


def test_by_hand_it_says_what_is_used(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "neuropod.runtimes.local.tools", tmp_path],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "bwrap: /" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_systems_own_sources_have_what_pods_need(tmp_path: Path):
    tools = fetch_tools(tmp_path / "cache", system=("/nowhere",))

    assert "nftables v" in run([*tools.nft, "--version"])
    assert "bubblewrap" in run([*tools.bwrap, "--version"])
    assert run([*tools.du, "--version"]).startswith("du (GNU coreutils)")
