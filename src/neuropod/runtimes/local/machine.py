"""What this machine can isolate, found by trying; the strongest mode it allows, and the sentences that say so.

Called by the local runtime at open and by `neuropod doctor`. The shim does not import this: it gets the parts it needs
in its plan.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuropod.runtimes.contract import Guarantee, Report, RuntimeUnavailableError
from neuropod.runtimes.local import filters, images
from neuropod.runtimes.local.cgroups import CgroupLayout, find_layout
from neuropod.runtimes.local.tools import ToolFailedError, Tools, run
from neuropod.settings import LocalSettings

Mode = Literal["root", "user", "none"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found."""

    mode: Mode
    machine_id: str
    boot_id: str
    tools: Tools
    cgroups: CgroupLayout
    tun: bool  # /dev/net/tun can be used (user mode's internet)
    loop_mounts: bool
    problems: tuple[str, ...]  # sentences: why a stronger mode is not had


def probe(settings: LocalSettings, tools: Tools, *, installation: str, data_dir: Path) -> Machine:
    """Try what each mode needs and return the strongest that works, or the one that settings name.

    Raises RuntimeUnavailableError when settings name a mode that cannot be had here.
    """
    problems: list[str] = []
    mode = _mode(settings.mode, tools, problems)
    if settings.mode not in {"auto", mode}:
        raise RuntimeUnavailableError(f"Pods cannot be isolated in mode {settings.mode} here: {' '.join(problems)}")
    layout = CgroupLayout(0, {}, dict.fromkeys(("memory", "cpu", "pids"), "not used without isolation"))
    if mode != "none":
        layout = find_layout(installation)
    loop_mounts = mode == "root" and _try("Images cannot be mounted", lambda: _mount_one(tools, data_dir), problems)
    tun = mode == "user" and _tun(tools, problems)
    if mode == "root":
        problems += _other_filters(tools)
    return Machine(
        mode=mode,
        machine_id=_first_line("/etc/machine-id"),
        boot_id=boot_id(),
        tools=tools,
        cgroups=layout,
        tun=tun,
        loop_mounts=loop_mounts,
        problems=tuple(problems),
    )


def _mode(wanted: str, tools: Tools, problems: list[str]) -> Mode:
    if wanted == "none":
        return "none"
    if os.geteuid() == 0:
        if wanted in {"auto", "root"} and _try("As root", lambda: _isolate_as_root(tools), problems):
            return "root"
        if wanted == "root":
            return "none"
    elif wanted == "root":
        problems.append("This server does not run as root.")
        return "none"
    if os.geteuid() != 0 and _try("As an ordinary user", lambda: _isolate_as_user(tools), problems):
        return "user"
    if wanted == "user" and not problems:
        problems.append("This server runs as root.")
    return "none"


def _try(what: str, trial: Callable[[], object], problems: list[str]) -> bool:
    try:
        trial()
    except (OSError, ToolFailedError) as error:
        problems.append(f"{what}: {error}".strip().rstrip(".") + ".")
        return False
    return True


def _sandbox(tools: Tools, *options: str) -> list[str]:
    """Return a sandbox like a pod's, for one command."""
    if not tools.bwrap:
        raise ToolFailedError("bubblewrap is not on this machine")
    return [*tools.bwrap, "--ro-bind", "/", "/", "--unshare-pid", "--unshare-ipc", "--proc", "/proc", *options, "--"]


def _isolate_as_root(tools: Tools) -> None:
    if not tools.setpriv or not tools.nft:
        raise ToolFailedError("setpriv or nft is not on this machine")
    drop = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs", "--"]
    keep = [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    # In a network namespace of its own: the rules are tried, and the host's stay as they are.
    run([*_sandbox(tools, "--cap-drop", "ALL", *keep), *tools.setpriv, *drop, "/bin/true"])
    rules = filters.root_rules("trial", "10.0.0.0/16", (), guard=True)
    run([*_sandbox(tools, "--unshare-net", "--cap-add", "CAP_NET_ADMIN"), *tools.nft, "-f", "-"], stdin=rules)


def _isolate_as_user(tools: Tools) -> None:
    if not tools.nft:
        raise ToolFailedError("nft is not on this machine")
    rules = filters.user_rules((), ())
    # As in life: the filter in a user namespace of its own, and a pod's sandbox in one below.
    outer = _sandbox(tools, "--unshare-user", "--unshare-net", "--uid", "0", "--cap-add", "ALL")
    run([*outer, *tools.nft, "-f", "-"], stdin=rules)
    run([*outer, *_sandbox(tools, "--unshare-user", "--uid", "1000", "--cap-drop", "ALL"), "/bin/true"])


def _tun(tools: Tools, problems: list[str]) -> bool:
    if not tools.pasta:
        problems.append("No way to the internet for pods: pasta is not on this machine.")
        return False

    def open_it() -> None:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))

    return _try("No way to the internet for pods", open_it, problems)


def _other_filters(tools: Tools) -> list[str]:
    """Say which firewalls of this machine drop what is forwarded: a packet must be accepted by each of them.

    Docker's is the one that people meet. Rules of its that accept pods cannot be seen here, so this is a hint.
    """
    table, found, chains = "", [], ""
    with suppress(ToolFailedError):  # an old nft that does not understand what somebody loaded
        chains = run([*tools.nft, "list", "chains"])
    for line in chains.splitlines():
        if line.startswith("table "):
            table = line.removeprefix("table ").removesuffix("{").strip()
        elif "hook forward" in line and "policy drop" in line and " neuropod_" not in table:
            found.append(
                f"The firewall table {table} drops what is forwarded: pods have a way to the internet only if it "
                f"accepts the interfaces {filters.LINKS}+ in both directions."
            )
    return found


def _mount_one(tools: Tools, data_dir: Path) -> None:
    """Make, mount and take away a small image where disks will be."""
    home = data_dir / "disks"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f".trial-{os.getpid()}"
    image, at = home / f"{name}.img", home / f"{name}.at"
    try:
        images.make(image, 4 << 20, blanks=home / ".blank", tools=tools, journal=False)
        images.mount(image, at, tools=tools, journal=False)
    finally:
        images.unmount(at)
        image.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            at.rmdir()


def report_of(machine: Machine) -> Report:
    """Return the eight guarantees (files, processes, ports, egress, memory, cpu, pids, disk) and whether each holds."""
    rows = [*_kept_apart(machine), *_limited(machine), _disk(machine)]
    return Report(mode=machine.mode, guarantees=tuple(rows), notes=machine.problems)


def _kept_apart(machine: Machine) -> list[Guarantee]:
    names = ("files", "processes", "ports", "egress")
    if machine.mode == "none":
        sentences = (
            "Pods can read and change what this server can.",
            "Pods see and can end each other's processes, and this server's.",
            "All pods share this machine's ports.",
            "Pods reach whatever this machine reaches, its own services too.",
        )
        return [Guarantee(name, False, sentence) for name, sentence in zip(names, sentences, strict=True)]
    who = "a user of this machine for each owner" if machine.mode == "root" else "a user namespace of its own"
    way = "by NAT" if machine.mode == "root" else "by pasta"
    sentences = (
        f"A pod sees its own disks and a read-only system, as {who}.",
        "A pod sees its own processes alone.",
        "Each pod has its own ports, reached through the gate alone.",
        f"To the internet {way}; not to this machine, to other pods, or to private networks."
        if machine.mode == "root" or machine.tun
        else "Pods have no way to the internet: /dev/net/tun cannot be used by this user.",
    )
    return [Guarantee(name, True, sentence) for name, sentence in zip(names, sentences, strict=True)]


def _limited(machine: Machine) -> list[Guarantee]:
    what = {
        "memory": "A pod that takes more than its memory is ended.",
        "cpu": "A pod gets no more CPU time than its cores.",
        "pids": "A pod has a bounded number of processes.",
    }
    rows = []
    for name, sentence in what.items():
        holds = name in machine.cgroups.roots
        why = machine.cgroups.missing.get(name, "no control group")
        rows.append(Guarantee(name, holds, sentence if holds else f"Not limited: {why}."))
    return rows


def _disk(machine: Machine) -> Guarantee:
    if machine.mode == "root" and machine.loop_mounts:
        return Guarantee("disk", True, "A disk is an image of its size and can hold no more.")
    return Guarantee(
        "disk", False, "Disks are folders that are measured now and then: a pod that takes more is ended afterwards."
    )


def boot_id() -> str:
    """Return the id of this boot."""
    return _first_line("/proc/sys/kernel/random/boot_id")


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
