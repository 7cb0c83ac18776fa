"""The programs that the local runtime starts, found once and named by absolute path.

Called by the server at open (`find_tools`, and `fetch_tools` where something lacks), by hand or by `make`
(`python -m neuropod.runtimes.local.tools <cache dir>`), and, through its plan, by the shim. Programs run with an empty
environment and an absolute path (SECURITY 1); what a cached one needs to find its libraries stands in its own prefix.

What the system lacks comes from the system's own package sources, by `apt-get download` and `dpkg-deb -x`: an ordinary
user may do both, and root changes nothing of the system by it. Each program has a tree of its own in the cache.
"""

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

_SYSTEM = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
# Field of Tools → the program's own name and the Debian package that holds it.
_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "bwrap": ("bwrap", "bubblewrap"),
    "pasta": ("pasta", "passt"),
    "nft": ("nft", "nftables"),
    "setpriv": ("setpriv", "util-linux"),
    "mkfs_ext4": ("mkfs.ext4", "e2fsprogs"),
    "resize2fs": ("resize2fs", "e2fsprogs"),
    "e2fsck": ("e2fsck", "e2fsprogs"),
    "rm": ("rm", "coreutils"),
    "chmod": ("chmod", "coreutils"),
    "du": ("du", "coreutils"),
}
# Where the two architectures of Debian that Neuropod runs on keep their loader and libraries.
_LOADERS = {
    "x86_64": ("/lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "aarch64": ("/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
}
_FOR_ROOT = frozenset({"setpriv", "mkfs_ext4", "resize2fs", "e2fsck"})  # not needed by a server of a user's
_FOR_USERS = frozenset({"pasta"})  # not needed by root's
_FETCH_SECONDS = 120.0
_INSTALL_LINE = re.compile(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", re.MULTILINE)


class ToolsMissingError(Exception):
    """A program is neither on this system nor in the cache, and could not be fetched; the sentence says which."""


class ToolFailedError(Exception):
    """A tool ended with an error; the sentence names it and carries its own words."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Argv prefixes: `[*tools.bwrap, "--ro-bind", …]` runs the program. An empty tuple: this machine lacks it."""

    bwrap: tuple[str, ...] = ()
    pasta: tuple[str, ...] = ()
    nft: tuple[str, ...] = ()
    setpriv: tuple[str, ...] = ()
    mkfs_ext4: tuple[str, ...] = ()
    resize2fs: tuple[str, ...] = ()
    e2fsck: tuple[str, ...] = ()
    rm: tuple[str, ...] = ()
    chmod: tuple[str, ...] = ()
    du: tuple[str, ...] = ()

    def as_json(self) -> dict[str, list[str]]:
        """Return what `from_json` reads; part of the shim's plan."""
        return {name: list(prefix) for name, prefix in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Sequence[str]]) -> "Tools":
        """Return the tools that `as_json` wrote; what another version added is passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: tuple(prefix) for name, prefix in data.items() if name in known})

    def missing(self, *, root: bool) -> tuple[str, ...]:
        """Return the names of the programs that were not found and pods need, under a server of root's or a user's."""
        needless = _FOR_USERS if root else _FOR_ROOT
        return tuple(
            program for field, (program, _) in _PROGRAMS.items() if field not in needless and not getattr(self, field)
        )


def find_tools(cache_dir: Path, *, system: Sequence[str] = _SYSTEM) -> Tools:
    """Look for each program on the system, then in the cache; never fetches, never fails."""
    return Tools(**{field: _find(field, cache_dir, system) for field in _PROGRAMS})


def _find(field: str, cache_dir: Path, system: Sequence[str]) -> tuple[str, ...]:
    program, package = _PROGRAMS[field]
    for folder in system:
        if os.access(path := Path(folder, program), os.X_OK):
            return (str(path),)
    tree = cache_dir / package
    if not tree.is_dir() or not _can_be_trusted(tree):
        return ()
    for folder in _SYSTEM:
        if os.access(path := tree / folder[1:] / program, os.X_OK):
            return _with_libraries(path, tree)
    return ()


def _with_libraries(path: Path, tree: Path) -> tuple[str, ...]:
    """Return the prefix that lets the system's own loader find the tree's libraries first."""
    loader, triplet = _LOADERS.get(platform.machine(), ("", ""))
    folders = [str(folder) for top in ("usr/lib", "lib") if (folder := tree / top / triplet).is_dir()]
    if not folders or not Path(loader).exists():
        return (str(path),)
    return (loader, "--library-path", ":".join(folders), str(path))


def _can_be_trusted(folder: Path) -> bool:
    """Tell whether nobody but root can change what is in the folder; asked only by root (SECURITY 1)."""
    if os.geteuid() != 0:
        return True
    folder = folder.resolve()
    for each in (folder, *folder.parents):
        facts = each.stat()
        open_to_others = facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX
        if facts.st_uid != 0 or open_to_others:
            return False
    return True


def fetch_tools(cache_dir: Path, *, system: Sequence[str] = _SYSTEM, apt_options: Sequence[str] = ()) -> Tools:
    """Fetch what the system lacks into the cache, then answer as `find_tools`. Raises ToolsMissingError."""
    found = find_tools(cache_dir, system=system)
    missing = found.missing(root=os.geteuid() == 0)
    packages = {package for program, package in _PROGRAMS.values() if program in missing}
    if not packages:
        return found
    cache_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not _can_be_trusted(cache_dir):
        raise ToolsMissingError(f"{cache_dir} can be changed by others than root: no program is kept there.")
    apt = _Apt(cache_dir, apt_options)
    for package in sorted(packages):
        apt.fetch(package)
    found = find_tools(cache_dir, system=system)
    if missing := found.missing(root=os.geteuid() == 0):
        raise ToolsMissingError(f"Fetched, and not found in what came: {', '.join(missing)}.")
    return found


class _Apt:
    """The system's package sources, used without changing the system."""

    def __init__(self, cache_dir: Path, options: Sequence[str]) -> None:
        self._cache = cache_dir
        self._options = list(options)
        if shutil.which("apt-get", path=":".join(_SYSTEM)) is None:
            raise ToolsMissingError(
                "This system has no apt-get: install bubblewrap, passt and nftables by its own means."
            )

    def _apt(self, *arguments: str, folder: Path | None = None) -> str:
        command = ["/usr/bin/apt-get", "-q", "-o", "Debug::NoLocking=1", *self._options, *arguments]
        # apt reads proxies from the environment, so it gets what this process has.
        done = subprocess.run(
            command,
            cwd=folder or "/",
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ToolFailedError(f"apt-get {arguments[0]}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return done.stdout

    def fetch(self, package: str) -> None:
        """Bring one package, with the libraries that the system lacks, into a tree of its own; all or nothing."""
        coming = Path(tempfile.mkdtemp(prefix=".coming-", dir=self._cache))
        try:
            coming.chmod(0o755)
            archives, tree = coming / "archives", coming / "tree"
            archives.mkdir()
            tree.mkdir(mode=0o755)
            self._apt("download", *self._names(package), folder=archives)
            for archive in sorted(archives.iterdir()):
                run(["/usr/bin/dpkg-deb", "-x", str(archive), str(tree)], env={"PATH": ":".join(_SYSTEM)})
            final = self._cache / package
            if final.exists():
                final.rename(coming / "old")
            tree.rename(final)
        except (ToolFailedError, subprocess.TimeoutExpired, OSError) as error:
            raise ToolsMissingError(f"{package} could not be fetched: {error}") from error
        finally:
            shutil.rmtree(coming, ignore_errors=True)

    def _names(self, package: str) -> list[str]:
        """Return the package and what it needs beyond what is installed, each with its version where it is known."""
        try:
            text = self._apt("install", "--simulate", "--no-install-recommends", package)
        except ToolFailedError:
            self._update()
            text = self._apt("install", "--simulate", "--no-install-recommends", package)
        names = {name: f"{name}={version}" for name, version in _INSTALL_LINE.findall(text)}
        names.setdefault(package, package)  # it may be installed, though not where it was looked for
        return sorted(names.values())

    def _update(self) -> None:
        """Read the sources' lists into the cache: a system that never did so has none."""
        lists, archives = self._cache / "apt" / "lists", self._cache / "apt" / "archives"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        self._options += ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={archives.parent}"]
        if os.geteuid() == 0:
            self._options += ["-o", "APT::Sandbox::User=root"]  # else apt's own user, who cannot write here
        self._apt("update")


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout_seconds: float = 30,
    env: Mapping[str, str] | None = None,
    good: frozenset[int] = frozenset({0}),
) -> str:
    """Run a tool to its end with an empty environment and return its output; ToolFailedError tells what it said."""
    if not argv:
        raise ToolFailedError("a program that is needed is not on this machine")
    try:
        done = subprocess.run(
            list(argv),
            cwd="/",
            env=dict(env or {}),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailedError(f"{argv[0]}: {error}") from error
    if done.returncode not in good:
        raise ToolFailedError(f"{Path(argv[0]).name}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def main() -> None:
    """Fetch what lacks and say what is used."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m neuropod.runtimes.local.tools <cache dir>")
    try:
        tools = fetch_tools(Path(sys.argv[1]).absolute())
    except ToolsMissingError as error:
        sys.exit(str(error))
    for name, prefix in tools.as_json().items():
        sys.stdout.write(f"{name}: {' '.join(prefix)}\n")


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
