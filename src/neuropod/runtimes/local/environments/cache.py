"""Which environments are there, who builds one and who waits; how an old one goes. `ensure` is called by the shim.

Below `<data dir>/cache/`, root-only (0700):

    environments/<scope>/<key>         finished, read-only, renamed into place in one step
    environments/<scope>/<key>.new     being built; whoever holds the lock may clear away what a killed build left
    environments/<scope>/<key>.lock    exclusive: a build; shared: a pod that uses it; its content: how far the build is
    downloads/<scope>/                 uv's own cache, owned by the uid that builds for this scope

A scope is an author's user id, or `shared` for what an administrator wrote: no two scopes share anything.
"""

import fcntl
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuropod.runtimes.local.environments.build import Build, Report
from neuropod.runtimes.local.environments.plan import BuildProgress, EnvironmentPlan, PrepareFailedError

_WAIT_SECONDS = 0.1
_KEEP = 6  # environments a scope keeps although no pod uses them
_DOWNLOAD_BYTES = 4 << 30  # what a scope's downloads may take between builds
_UIDS = range(0x70000000, 0x7FFFFF00)  # those of builds; far above the uids of people and of pods' owners


def ensure(plan: EnvironmentPlan, report: Report) -> Path:
    """Return the environment of `plan`, built now if it is not there; a second caller waits for the first's build.

    Call it in the host's network namespace and before a user namespace is entered. The calling process holds the
    environment until it ends, so that no eviction takes it from under a pod. `report` is called several times a second
    with how far it is; what it raises ends the wait or the build and is passed on. Raises PrepareFailedError with the
    last lines that uv said; nothing half stays behind, however a build ended.
    """
    home = private_folder(plan.cache_dir, "environments", plan.scope)
    final = home / plan.key
    deadline = time.monotonic() + 2 * plan.timeout_seconds
    waited = False
    while True:
        lock = Lock(home / f"{plan.key}.lock")
        if final.is_dir() and lock.acquire(fcntl.LOCK_SH) and final.is_dir():
            lock.touch()
            return final  # the lock stays
        try:
            if lock.acquire(fcntl.LOCK_EX):
                if not final.is_dir():
                    if waited and (failure := lock.failure()):
                        raise PrepareFailedError(failure)
                    _build_locked(plan, final, lock, report)
                continue  # taken again as shared, and looked at again, in the next turn
            progress = lock.progress()
        finally:
            lock.close()
        waited = True
        report(progress or BuildProgress("waiting for another build"))
        if time.monotonic() > deadline:
            raise PrepareFailedError("another pod's build of the same environment did not end")
        time.sleep(_WAIT_SECONDS)


def _build_locked(plan: EnvironmentPlan, final: Path, lock: "Lock", report: Report) -> None:
    """Build and rename; the caller holds the exclusive lock."""
    target = final.with_name(f"{final.name}.new")
    remove_tree(target)
    progress: BuildProgress | None = None

    def tell(now: BuildProgress) -> None:
        nonlocal progress
        if now != progress:
            progress = now
            lock.write({"progress": asdict(now)})
        report(now)

    try:
        tell(BuildProgress("resolving packages"))
        with _downloads(plan) as (downloads, uid):
            target.mkdir(mode=0o700)
            if uid is not None:
                os.chown(target, uid, uid)
            Build(plan, target, final, downloads, uid, tell).run()
        target.rename(final)
        lock.write({})
    except PrepareFailedError as error:
        lock.write({"failed": str(error)})
        raise
    except BaseException:
        lock.write({})
        raise
    finally:
        remove_tree(target)
    evict(final.parent, keep=_KEEP, but=final.name)


@contextmanager
def _downloads(plan: EnvironmentPlan) -> Iterator[tuple[Path, int | None]]:
    """Yield the scope's download cache and, as root, the uid that owns it; too large a one is cleared afterwards."""
    home = private_folder(plan.cache_dir, "downloads")
    folder = home / plan.scope
    as_root = plan.mode == "root"
    lock = Lock(home / f"{plan.scope}.lock")
    try:
        if not folder.is_dir() or (as_root and folder.stat().st_uid not in _UIDS):
            lock.acquire(fcntl.LOCK_EX, wait=True)
            if not folder.is_dir() or (as_root and folder.stat().st_uid not in _UIDS):
                remove_tree(folder)
                _new_downloads(folder, throw_away_uid=as_root)
        lock.acquire(fcntl.LOCK_SH, wait=True)
        yield folder, folder.stat().st_uid if as_root else None
        if _size(folder) > _DOWNLOAD_BYTES and lock.acquire(fcntl.LOCK_EX):
            remove_tree(folder)
    finally:
        lock.close()


def _new_downloads(folder: Path, *, throw_away_uid: bool) -> None:
    """Make the folder, owned by a uid that no other scope has."""
    fresh = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    fresh.mkdir(mode=0o700)
    if throw_away_uid:
        used = {entry.stat(follow_symlinks=False).st_uid for entry in os.scandir(folder.parent)}
        uid = secrets.choice(_UIDS)
        while uid in used:
            uid = secrets.choice(_UIDS)
        os.chown(fresh, uid, uid)
    fresh.rename(folder)


def evict(home: Path, *, keep: int, but: str) -> None:
    """Remove the environments of a scope that no pod holds, beyond the `keep` used last; never the one named `but`."""
    names = [path for path in home.iterdir() if path.is_dir() and path.suffix != ".new" and path.name != but]
    locks = {path: home / f"{path.name}.lock" for path in names}
    names.sort(key=lambda path: locks[path].stat().st_mtime if locks[path].exists() else 0, reverse=True)
    for path in names[keep:]:
        lock = Lock(locks[path])
        if lock.acquire(fcntl.LOCK_EX):
            gone = path.with_name(f"{path.name}.new")  # a killed eviction leaves what the next build clears away
            path.rename(gone)
            remove_tree(gone)
            locks[path].unlink(missing_ok=True)
        lock.close()


def remove_tree(path: Path) -> None:
    """Delete a folder by a program that follows no link and minds no depth; nothing there is nothing to do."""
    if os.path.lexists(path):
        subprocess.run(["/bin/rm", "-rf", "--one-file-system", "--", str(path)], check=True, env={}, close_fds=True)


def private_folder(*parts: str) -> Path:
    """Return the folder, each missing level of it made for its owner alone."""
    path = Path(*parts)
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
    return path


def _size(folder: Path) -> int:
    """Return the bytes of the files below, links not followed; a tree too deep to be read counts as too large."""
    total = 0
    stack = [str(folder)]
    try:
        while stack:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return _DOWNLOAD_BYTES + 1
    return total


class Lock:
    """A lock file whose content is a small JSON object.

    Not closed means held until this process ends; children do not inherit it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def acquire(self, kind: int, *, wait: bool = False) -> bool:
        """Take the lock, or answer False when somebody else has it or the file was removed meanwhile."""
        try:
            fcntl.flock(self._fd, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        try:
            return os.fstat(self._fd).st_ino == self._path.stat().st_ino
        except FileNotFoundError:
            return False

    def failure(self) -> str | None:
        """Return how the last build failed, if it did."""
        failed = self._read().get("failed")
        return failed if isinstance(failed, str) else None

    def progress(self) -> BuildProgress | None:
        """Return how far the present build is, if it said."""
        said = self._read().get("progress")
        return BuildProgress(**said) if isinstance(said, dict) else None

    def _read(self) -> dict[str, Any]:
        """Return the content; whatever cannot be read is empty."""
        try:
            value = json.loads(os.pread(self._fd, 65536, 0) or b"{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, value: object) -> None:
        """Replace the content; a reader may meet a half of it, and takes that for nothing."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(value).encode(), 0)

    def touch(self) -> None:
        """Note that the environment was used now."""
        os.utime(self._fd)

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)
