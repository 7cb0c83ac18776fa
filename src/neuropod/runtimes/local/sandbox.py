"""From a plan to the sandbox's command line: pure, so that what a pod gets is read and tested in one place.

Called by `spawn`. bubblewrap reads its options from a descriptor, since /proc/1/cmdline is the pod's to read and should
not tell where the host keeps its data. What is in a pod: the host's /usr read-only, a /etc of a few files, /proc, a
minimal /dev, its disks, its environment, and the launcher. The order of the steps to the pod's command:

    root   bubblewrap (uid 0, three capabilities) → setpriv (the owner's uid, none) → launcher → command
    user   bubblewrap (a user namespace of its own) → launcher → command
    none   launcher → command: nothing is kept apart

No step before the launcher sees anything of the pod's: no variable, no path, no word of its command (SECURITY 1).
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neuropod.runtimes.local.driverfiles import PROC
from neuropod.runtimes.local.plan import Plan

LAUNCHER_PATH = "/run/neuropod/launcher.py"
INTERPRETER = "/usr/bin/python3"
USER_NAME = "pod"
HOME = "/home/pod"
USER_MODE_UID = 1000  # inside; outside it is the server's own

CHANNEL_FD = 3  # the launcher's socket, inherited to it alone
_FIRST_FILE_FD = 10

# What programs need of the host's /etc and holds no secret; bound read-only where it is there.
_ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types", "os-release", "pki/ca-trust",
    "pki/tls/certs", "protocols", "python3", "python3.11", "python3.12", "python3.13", "python3.14", "services",
    "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
# What the kernel tells of the machine, or of keys of the same uid, and no program needs: empty inside.
_MASKED = (
    "/proc/keys", "/proc/key-users", "/proc/kcore", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug",
    "/proc/sysrq-trigger",
)  # fmt: skip
_DIRECTORIES = ("/etc", "/home", "/opt", "/run", "/run/neuropod", "/srv", "/mnt", "/var", "/var/tmp")  # noqa: S108
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
_SETPRIV_DROPS = (
    "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host that appears inside."""

    source: str
    destination: str
    writable: bool = False
    device: bool = False


@dataclass(frozen=True, slots=True)
class HostRoot:
    """How this host's root looks: `/bin` and its like are links on some systems and directories on others."""

    links: tuple[tuple[str, str], ...]  # (path, target)
    directories: tuple[str, ...]
    etc: tuple[str, ...] = ()  # what of its /etc appears inside
    masked: tuple[str, ...] = ()  # those of its /proc's files that are to be empty inside

    @staticmethod
    def look() -> "HostRoot":
        """Look at this host's root."""
        links, directories = [], []
        for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
            path = Path(name)
            if path.is_symlink():
                links.append((name, str(path.readlink())))
            elif path.is_dir():
                directories.append(name)
        etc = tuple(name for name in _ETC if Path("/etc", name).exists())
        return HostRoot(tuple(links), tuple(directories), etc, tuple(name for name in _MASKED if Path(name).is_file()))


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What to execute, and the contents of the descriptors that its arguments name; no secret is among them."""

    argv: tuple[str, ...]
    files: dict[int, bytes]


class _Arguments:
    """Collects options, and the contents that some of them refer to by descriptor."""

    def __init__(self) -> None:
        self.options: list[str] = []
        self.files: dict[int, bytes] = {}

    def add(self, *options: str) -> None:
        self.options += options

    def data(self, content: bytes) -> str:
        fd = _FIRST_FILE_FD + len(self.files)
        self.files[fd] = content
        return str(fd)

    def file(self, destination: str, content: str | bytes) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.add("--perms", "0444", "--file", self.data(content), destination)

    def directory(self, path: str) -> None:
        self.add("--perms", "0755", "--dir", path)

    def bind(self, bind: Bind) -> None:
        # Left to itself bubblewrap closes the parents of what is closed outside, and the pod's uid stays out.
        for parent in reversed(PurePosixPath(bind.destination).parents[:-1]):
            if str(parent) not in _DIRECTORIES and not str(parent).startswith("/dev"):
                self.directory(str(parent))
        if bind.device:
            self.add("--dev-bind", bind.source, bind.destination)
        else:
            self.add("--bind" if bind.writable else "--ro-bind", bind.source, bind.destination)


def sandbox_of(
    plan: Plan,
    *,
    host: HostRoot,
    binds: tuple[Bind, ...],
    resolv_conf: str,
    program_files: dict[str, bytes],
    driver: tuple[tuple[str, bytes], ...] | None = None,
    bpf: bytes,
) -> Sandbox:
    """Return the sandbox of a pod in mode `root` or `user`.

    `program_files` are what the launcher consists of, by file name; `binds` the pod's disks, environment and devices;
    `driver` what it sees of NVIDIA's part of /proc (`driverfiles.proc_files`).
    """
    uid, gid = (plan.uid, plan.gid) if plan.mode == "root" else (USER_MODE_UID, USER_MODE_UID)
    arguments = _Arguments()
    _namespaces(arguments, plan)
    _root(arguments, host)
    for name in host.etc:
        arguments.bind(Bind(f"/etc/{name}", f"/etc/{name}"))
    _etc(arguments, plan, uid, gid, resolv_conf)
    _kernel_files(arguments, plan, host, [bind for bind in binds if bind.device])
    _driver(arguments, driver)
    for name, content in program_files.items():
        arguments.file(f"/run/neuropod/{name}", content)
    for bind in binds:
        if not bind.device:
            arguments.bind(bind)
    arguments.add("--remount-ro", "/", "--seccomp", arguments.data(bpf))
    options = b"".join(option.encode() + b"\0" for option in arguments.options)
    argv = [*plan.tools["bwrap"], "--args", arguments.data(options), "--"]
    if plan.mode == "root":
        argv += [*plan.tools["setpriv"], "--reuid", str(uid), "--regid", str(gid), *_SETPRIV_DROPS, "--"]
    return Sandbox((*argv, INTERPRETER, "-I", "-S", LAUNCHER_PATH, str(CHANNEL_FD)), arguments.files)


def _namespaces(arguments: _Arguments, plan: Plan) -> None:
    arguments.add("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent")
    arguments.add("--hostname", host_name(plan), "--clearenv", "--cap-drop", "ALL")
    if plan.mode == "root":
        # For setpriv alone, which gives them up; the filter and no_new_privs are in force already.
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments.add("--cap-add", capability)
    else:
        arguments.add("--unshare-user", "--uid", str(USER_MODE_UID), "--gid", str(USER_MODE_UID))


def _root(arguments: _Arguments, host: HostRoot) -> None:
    arguments.add("--ro-bind", "/usr", "/usr")
    for path, target in host.links:
        arguments.add("--symlink", target, path)
    for path in host.directories:
        arguments.add("--ro-bind", path, path)
    for directory in _DIRECTORIES:
        arguments.directory(directory)
    arguments.add("--symlink", "../run", "/var/run")


def _etc(arguments: _Arguments, plan: Plan, uid: int, gid: int, resolv_conf: str) -> None:
    arguments.file(
        "/etc/passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"{USER_NAME}:x:{uid}:{gid}:{host_name(plan)}:{HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )
    arguments.file("/etc/group", f"root:x:0:\n{USER_NAME}:x:{gid}:\nnogroup:x:65534:\n")
    name = host_name(plan)
    arguments.file("/etc/hosts", f"127.0.0.1 localhost {name}\n::1 localhost ip6-localhost {name}\n")
    arguments.file("/etc/hostname", f"{name}\n")
    arguments.file("/etc/resolv.conf", resolv_conf)
    arguments.file("/etc/nsswitch.conf", _NSSWITCH)


def _kernel_files(arguments: _Arguments, plan: Plan, host: HostRoot, devices: list[Bind]) -> None:
    arguments.add("--proc", "/proc", "--dev", "/dev")
    for device in devices:  # before /dev is closed
        arguments.bind(device)
    # Shared memory is memory: half of the pod's. The rest of /dev, which in user mode the pod owns, is closed.
    half = str(max(1 << 20, plan.memory_bytes // 2))
    arguments.add("--perms", "1777", "--size", half, "--tmpfs", "/dev/shm", "--remount-ro", "/dev")  # noqa: S108
    for path in host.masked:
        arguments.add("--perms", "0444", "--ro-bind-data", arguments.data(b""), path)
    for path in ("/sys", "/sys/devices", "/sys/devices/system"):
        arguments.directory(path)
    for path in ("/sys/devices/system/cpu", "/sys/devices/system/node"):
        arguments.add("--ro-bind-try", path, path)


def _driver(arguments: _Arguments, driver: tuple[tuple[str, bytes], ...] | None) -> None:
    """Put the pod's part over the driver's own, which names all GPUs of the machine."""
    if driver is None:
        return
    arguments.add("--perms", "0755", "--size", str(1 << 20), "--tmpfs", PROC)
    for path, content in driver:
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent).startswith(f"{PROC}/"):
                arguments.directory(str(parent))
        arguments.file(path, content)
    arguments.add("--remount-ro", PROC)


def host_name(plan: Plan) -> str:
    """Return the pod's name as a host name, which it is already unless somebody else than the API made it up."""
    return re.sub(r"[^a-z0-9-]", "-", plan.pod_name.lower())[:63] or "pod"


def plain_of(interpreter: str, launcher: str) -> Sandbox:
    """Return the mode `none`: the launcher as it is, in its own session."""
    return Sandbox((interpreter, "-I", "-S", launcher, str(CHANNEL_FD)), {})
