"""Begin and end of a cluster, from the host: one `unshare` whose end is the end of all, and no trace afterwards."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import images, keys, packages, programs
from .places import CACHE, HERE, Cluster, Node
from .processes import wait_until
from .supervisor import cgroup_hierarchies

_START_SECONDS = 300


@contextlib.contextmanager
def _building() -> Iterator[None]:
    """One at a time fills the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare() -> None:
    """Install and build whatever is missing: minutes the first time, nothing later."""
    with _building():
        packages.install_missing()
        programs.build_all()
        images.build_all()
        images.filled_store()


def up(cluster: Cluster, *, nodes: list[str], policies: bool, tied: bool) -> subprocess.Popen[bytes]:
    """Start the cluster and return when it takes pods; RuntimeError with the end of its log if it does not.

    A `tied` one ends with this process, another one with `down`.
    """
    prepare()
    down(cluster)
    cluster.logs.mkdir(parents=True, mode=0o700)
    keys.make(cluster)
    command = [
        *("unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc", "tini", "--"),
        *(sys.executable, "-m", "cluster.supervisor", cluster.name),
        *("policies" if policies else "no-policies", "tied" if tied else "free", *nodes),
    ]
    log = cluster.logs / "supervisor.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            command,
            cwd=HERE.parent,
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the tests, which still need the cluster to clean up
        )
    try:
        wait_until("readiness", lambda: cluster.ready.exists() or running.poll() is not None, seconds=_START_SECONDS)
    except TimeoutError:
        running.kill()
    if not cluster.ready.exists():
        raise RuntimeError(f"the cluster did not start; see {cluster.logs}\n{log.read_text()[-3000:]}")
    return running


def inside(cluster: Cluster) -> int | None:
    """Find the host's process id of the first program in the namespaces; None if the cluster does not run."""
    return _process(cluster, "tini")


def _process(cluster: Cluster, program: str) -> int | None:
    """Find one of the programs around the supervisor, by their words: a cluster that is just begun has left no note."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text(errors="replace")
            if command.startswith(f"{program}\0") and f"\0cluster.supervisor\0{cluster.name}\0" in command:
                return int(process.name)
    return None


def down(cluster: Cluster) -> None:
    """End the cluster, if it runs or is just beginning, and remove what it left; may be repeated."""

    def has_ended() -> bool:
        if (first := inside(cluster)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        return _process(cluster, "unshare") is None  # which ends once nothing is left in the namespaces

    wait_until("the end of the cluster", has_ended, seconds=90)
    for hierarchy in cgroup_hierarchies():
        top = hierarchy / cluster.cgroup
        for group in sorted((top.rglob("*/") if top.exists() else ()), reverse=True):
            _remove_group(str(group))
        if top.exists():
            _remove_group(str(top))
    if cluster.folder.exists():
        shutil.rmtree(cluster.folder)


def _remove_group(group: str) -> None:
    """Remove it, patiently: the kernel frees it a moment after the last of its processes has ended."""
    end = time.monotonic() + 30
    while True:
        try:
            return Path(group).rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def inside_node(cluster: Cluster, node: Node) -> int | None:
    """Find the host's process id of the node's first program; None if the node is off."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text(errors="replace").split("\0")
            if command[0].endswith("tini") and command[-4:-2] == [cluster.name, node.name]:
                return int(process.name)
    return None
