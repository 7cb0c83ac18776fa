"""Programs are found where the system keeps them, else in a cache that nobody else can change, else fetched."""

import os
import subprocess
from pathlib import Path

import pytest

from neuropod.runtimes.local import tools
from neuropod.runtimes.local.tools import ToolFailedError, Tools, ToolsMissingError, fetch_tools, find_tools, run

ROOT = os.geteuid() == 0


def a_program(path: Path, text: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_is_named_by_its_absolute_path(tmp_path: Path):
    found = find_tools(tmp_path)

    assert found.rm in {("/usr/bin/rm",), ("/bin/rm",)}
    assert all(Path(prefix[0]).is_absolute() for prefix in found.as_json().values() if prefix)


def test_a_program_on_the_path_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a_program(tmp_path / "bin" / "nft")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "bin")

    found = find_tools(tmp_path / "cache", system=[str(tmp_path / "nothing")])

    assert found == Tools()


def test_the_system_comes_before_the_cache(tmp_path: Path):
    system, cached = a_program(tmp_path / "system" / "nft"), a_program(tmp_path / "cache/nftables/usr/sbin/nft")

    assert find_tools(tmp_path / "cache", system=[str(system.parent)]).nft == (str(system),)
    assert find_tools(tmp_path / "cache", system=[str(tmp_path / "nothing")]).nft == (str(cached),)


@pytest.mark.root
@pytest.mark.parametrize(
    ("what", "mode"), [("cache", 0o777), ("cache/nftables", 0o775), ("cache/nftables", 0o757)], ids=str
)
def test_root_takes_nothing_from_a_cache_that_others_can_change(tmp_path: Path, what: str, mode: int):
    a_program(tmp_path / "cache/nftables/usr/sbin/nft")
    (tmp_path / what).chmod(mode)

    assert find_tools(tmp_path / "cache", system=["/nothing"]).nft == ()


@pytest.mark.root
def test_root_takes_nothing_from_a_cache_of_somebody_elses(tmp_path: Path):
    a_program(tmp_path / "cache/nftables/usr/sbin/nft")
    os.chown(tmp_path / "cache/nftables", 61_000, 61_000)

    assert find_tools(tmp_path / "cache", system=["/nothing"]).nft == ()


def test_what_a_server_needs_depends_on_who_runs_it():
    everything = Tools(**dict.fromkeys(Tools().as_json(), ("/x",)))

    assert everything.missing(root=True) == everything.missing(root=False) == ()
    assert "pasta" not in Tools().missing(root=True)
    assert {"mkfs.ext4", "resize2fs"} <= set(Tools().missing(root=True))
    assert {"mkfs.ext4", "resize2fs"}.isdisjoint(Tools().missing(root=False))
    assert {"bwrap", "pasta", "nft"} <= set(Tools().missing(root=False))


def test_a_program_gets_no_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SECRET", "x")

    assert run(["/usr/bin/env"]) == ""


def test_a_failed_program_is_an_error_with_its_own_words(tmp_path: Path):
    program = a_program(tmp_path / "tool", "echo that will not do >&2; exit 3")

    with pytest.raises(ToolFailedError, match="tool: that will not do"):
        run([str(program)])
    with pytest.raises(ToolFailedError, match="never-was"):
        run([str(tmp_path / "never-was")])
    with pytest.raises(ToolFailedError, match="not on this machine"):
        run(())
    assert run([str(program)], good=frozenset({3})) == ""


def test_a_program_that_does_not_end_is_ended(tmp_path: Path):
    program = a_program(tmp_path / "tool", "exec sleep 1000")

    with pytest.raises(ToolFailedError, match="timed out"):
        run([str(program)], timeout_seconds=0.2)


@pytest.mark.root
@pytest.mark.user
@pytest.mark.timeout(300)
def test_what_the_system_lacks_is_fetched_and_runs_from_the_cache(tmp_path: Path):
    cache = tmp_path / "cache"

    found = fetch_tools(cache, system=[str(tmp_path / "nothing")])

    assert found.missing(root=ROOT) == ()
    for prefix in (found.bwrap, found.nft) if ROOT else (found.bwrap, found.nft, found.pasta):
        assert str(cache) in prefix[-1]
        assert run([*prefix, "--version"])
    # With the libraries that came with it, and not with this system's.
    libraries = subprocess.run(
        [*found.nft[:-1], "--list", found.nft[-1]] if len(found.nft) > 1 else ["ldd", found.nft[0]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "not found" not in libraries
    # Nothing half, nothing of the fetching itself; the second time nothing is fetched.
    assert not [path.name for path in cache.iterdir() if path.name.startswith(".")]
    assert {path.stat().st_uid for path in cache.iterdir()} == {os.geteuid()}
    before = {path.name: path.stat().st_ino for path in cache.iterdir()}
    assert fetch_tools(cache, system=[str(tmp_path / "nothing")]) == found
    assert {path.name: path.stat().st_ino for path in cache.iterdir()} == before


@pytest.mark.root
@pytest.mark.user
def test_a_system_without_apt_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "_SYSTEM", (str(tmp_path),))

    with pytest.raises(ToolsMissingError, match="install bubblewrap, passt and nftables"):
        fetch_tools(tmp_path / "cache", system=[str(tmp_path / "nothing")])


@pytest.mark.root
def test_root_keeps_no_programs_where_others_can_change_them(tmp_path: Path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)

    with pytest.raises(ToolsMissingError, match="can be changed by others"):
        fetch_tools(tmp_path / "cache", system=[str(tmp_path / "nothing")])


def test_tools_survive_the_way_through_json_and_a_newer_version():
    some = Tools(nft=("/ld.so", "--library-path", "/x", "/nft"), rm=("/bin/rm",))

    assert Tools.from_json(some.as_json()) == some
    assert Tools.from_json(some.as_json() | {"of the future": ["/x"]}) == some
