"""One build: uv and the byte-compiler, each in a sandbox, watched for time and space. Called by `cache` alone.

What holds in which mode:

    root    bubblewrap, then a uid that belongs to this scope's builds and to nothing else, no capabilities
    user    bubblewrap in a user namespace of its own
    none    a plain child process: nothing is kept apart there, and the machine's report says so

uv runs in the host's network namespace, since the index is reached from there: the only requests that leave are uv's
own, to the fixed index and to where that index says its files are. No package's code runs: uv is told to refuse
sources, it starts the interpreter only before anything is installed, and the byte-compiler (no network) runs without
`site`.
"""

import os
import re
import selectors
import signal
import stat
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from neuropod.runtimes.local.environments.plan import (
    ENVIRONMENT_PATH,
    BuildProgress,
    EnvironmentPlan,
    PrepareFailedError,
    without_credentials,
)

Report = Callable[[BuildProgress], None]

_DYING_SECONDS = 10.0  # at most: outside a sandbox one may have left the group, and lives on
_TICK_SECONDS = 0.2
_UV = "/opt/neuropod/uv"
_CA = "/opt/neuropod/ca.pem"
_DOWNLOADS = "/opt/neuropod/downloads"
_SETPRIV = "/usr/bin/setpriv"
_ETC = ("resolv.conf", "hosts", "nsswitch.conf", "ld.so.cache", "localtime", "alternatives")
_CAUSES = ("error:", "\N{MULTIPLICATION SIGN}")  # how uv begins to say what went wrong
_KEPT_LINES = 20


@dataclass(slots=True)
class Build:
    """One build of `plan` into `target` (empty, on the cache's own file system), to be renamed to `final`.

    In the modes with a sandbox `target` appears at ENVIRONMENT_PATH; in mode `none` it is built where it stands and
    its scripts are rewritten for `final`.
    """

    plan: EnvironmentPlan
    target: Path
    final: Path
    downloads: Path
    uid: int | None  # the throw-away uid in mode `root`
    report: Report
    _deadline: float = 0.0
    _next_tick: float = 0.0
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _progress: BuildProgress = field(default_factory=lambda: BuildProgress("resolving packages"))

    def run(self) -> None:
        """Build and seal. Raises PrepareFailedError; whatever `report` raises ends the build and is passed on."""
        self._deadline = time.monotonic() + self.plan.timeout_seconds
        self._uv("venv", "--no-project", "--allow-existing", "--python", self.plan.interpreter, self._inside)
        before = self._prepared()
        self._uv(
            "pip", "install", "--python", f"{self._inside}/bin/python", "--no-build", "--link-mode", "copy",
            *self.plan.packages, before=before,
        )  # fmt: skip
        self._compile()
        if self.plan.mode == "none":
            _rewrite_scripts(self.target, self.final)
        seal(self.target, interpreter=self.plan.interpreter, owner=0 if self.plan.mode == "root" else None)

    @property
    def _inside(self) -> str:
        """Where the build itself sees its target."""
        return str(self.target) if self.plan.mode == "none" else ENVIRONMENT_PATH

    def _uv(self, *arguments: str, before: int | None = None) -> None:
        """Run uv with nothing of the host's configuration; credentials of the index stay out of argument lists."""
        sandboxed = self.plan.mode != "none"
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp" if sandboxed else str(self.downloads),  # noqa: S108  # the sandbox's own
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "UV_CACHE_DIR": _DOWNLOADS if sandboxed else str(self.downloads),
            "UV_DEFAULT_INDEX": self.plan.index_url,
            "UV_PYTHON_DOWNLOADS": "never",
        }
        options = ["--no-config", "--no-progress"]
        if self.plan.ca_bundle is not None:  # without one uv has its own list, and refuses the system's empty one
            environ["SSL_CERT_FILE"] = _CA if sandboxed else self.plan.ca_bundle
            options.append("--system-certs")
        argv = [_UV if sandboxed else self.plan.uv, *arguments, *options]
        if self._run(self._sandbox(argv, network=True), environ, lambda line: self._heard(line, before)) != 0:
            raise PrepareFailedError(self._sentence())

    def _compile(self) -> None:
        """Write byte code for the path that pods see; without it every start of a read-only mount would compile."""
        lib = f"{self._inside}/lib"
        total = sum(name.endswith(".py") for _, _, names in os.walk(self.target / "lib") for name in names)
        self._progress = BuildProgress("compiling packages", 0, total, "files")
        final = str(self.final) if self.plan.mode == "none" else ENVIRONMENT_PATH
        argv = [
            self.plan.interpreter, "-I", "-S", "-m", "compileall", "-j", str(min(4, os.cpu_count() or 1)),
            "-s", self._inside, "-p", final, lib,
        ]  # fmt: skip
        # A file that does not compile (a template, a test for another Python) is no reason to fail: it is not imported.
        self._run(self._sandbox(argv, network=False), {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, self._compiled)

    def _sandbox(self, argv: Sequence[str], *, network: bool) -> list[str]:
        """Return the command that runs `argv` with nothing but the system's programs, its target and its downloads."""
        if self.plan.mode == "none":
            dies_with_us = [_SETPRIV, "--pdeathsig", "KILL", "--"] if os.access(_SETPRIV, os.X_OK) else []
            return [*dies_with_us, *argv]
        if not self.plan.bwrap:
            raise PrepareFailedError("bubblewrap is missing, and nothing is built outside a sandbox")
        command = [
            *self.plan.bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
            "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr",
        ]  # fmt: skip
        if self.plan.mode == "user":
            command += ["--unshare-user", "--cap-drop", "ALL"]
        if not network:
            command += ["--unshare-net"]
        command += _system_links()
        command += ["--proc", "/proc", "--dev", "/dev"]
        command += [part for path in ("/dev/shm", "/tmp") for part in ("--perms", "1777", "--tmpfs", path)]  # noqa: S108
        command += [part for path in ("/etc", "/opt", "/opt/neuropod") for part in ("--perms", "0755", "--dir", path)]
        for name in _ETC:
            command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        if self.plan.ca_bundle is not None:
            command += ["--ro-bind", self.plan.ca_bundle, _CA]
        command += ["--ro-bind", self.plan.uv, _UV, "--bind", str(self.target), ENVIRONMENT_PATH]
        command += ["--bind", str(self.downloads), _DOWNLOADS] if network else []
        command += ["--chdir", "/", "--"]
        if self.uid is not None:
            command += [
                _SETPRIV, f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--no-new-privs",
                "--inh-caps=-all", "--bounding-set=-all",
            ]  # fmt: skip
        return [*command, *argv]

    def _run(self, argv: Sequence[str], environ: dict[str, str], on_line: Callable[[str], None]) -> int:
        """Run a command to its end, reporting several times a second; it is killed when this is left early."""
        with subprocess.Popen(
            argv, env=environ, cwd=self.target, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        ) as process, selectors.DefaultSelector() as selector:  # fmt: skip
            assert process.stdout is not None
            try:
                selector.register(process.stdout, selectors.EVENT_READ)
                rest = b""
                while True:
                    if selector.select(_TICK_SECONDS):
                        chunk = os.read(process.stdout.fileno(), 65536)
                        *lines, rest = (rest + chunk).split(b"\n")
                        for line in lines:
                            on_line(line.decode(errors="replace"))
                        if not chunk:
                            return process.wait(timeout=10)
                        if len(rest) > 65536:
                            rest = b""
                    self._tick()
            except subprocess.TimeoutExpired:
                raise PrepareFailedError("the build closed its output and did not end") from None
            finally:
                # The first process of the sandbox dies with bubblewrap, and its pid namespace with that one.
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    # All of them are dead once nobody has its output open: until then they write to the target.
                    until = time.monotonic() + _DYING_SECONDS
                    while (left := until - time.monotonic()) > 0 and selector.select(left):
                        if not os.read(process.stdout.fileno(), 65536):
                            break

    def _tick(self) -> None:
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_SECONDS
        if now > self._deadline:
            raise PrepareFailedError(
                f"preparing the environment took longer than {self.plan.timeout_seconds:.0f} s "
                f"(while {self._progress.step})"
            )
        disk = os.statvfs(self.target)
        if disk.f_bavail * disk.f_frsize < self.plan.reserve_bytes:
            raise PrepareFailedError("the data disk has no room for this environment")
        self.report(self._progress)

    def _heard(self, line: str, before: int | None) -> None:
        """Take a line of uv's: progress comes from the sums it prints and from what its cache holds by now."""
        self._lines.append(line)
        if before is None:
            return
        if match := re.match(r"Resolved (\d+) package", line):
            self._progress = BuildProgress("downloading packages", 0, int(match[1]), "packages")
        elif re.match(r"Prepared \d+ package", line):
            total = self._progress.total or 0
            self._progress = BuildProgress("installing packages", total, total, "packages")
        elif self._progress.step == "downloading packages" and self._progress.total is not None:
            done = min(max(self._prepared() - before, 0), self._progress.total)
            self._progress = BuildProgress("downloading packages", done, self._progress.total, "packages")

    def _compiled(self, line: str) -> None:
        if line.startswith("Compiling ") and self._progress.total is not None:
            done = min(self._progress.done + 1, self._progress.total)
            self._progress = BuildProgress("compiling packages", done, self._progress.total, "files")

    def _prepared(self) -> int:
        """Count the wheels that lie unpacked in the scope's downloads."""
        with suppress(OSError):
            return sum(1 for _ in self.downloads.glob("archive-v*/*"))
        return 0

    def _sentence(self) -> str:
        """Return why uv gave up: what it told of its steps before that explains nothing."""
        lines = [line for line in self._lines if line.strip()]
        first = next((at for at, line in enumerate(lines) if line.lstrip().startswith(_CAUSES)), 0)
        said = "\n".join(lines[first:])[-2000:]
        return said.replace(self.plan.index_url, without_credentials(self.plan.index_url)) or "uv ended without a word"


def _system_links() -> list[str]:
    """Return the arguments that give a sandbox the system's top folders beside /usr, as links where they are links."""
    arguments = []
    for path in (Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib64"), Path("/lib32")):
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    return arguments


def seal(target: Path, *, interpreter: str, owner: int | None) -> None:
    """Make a finished tree fit to be mounted: nothing set-uid, nothing writable by others, no link that leads out.

    Called when every process of the build has ended, so that nothing changes underneath. With `owner` everything is
    handed to that uid, so that the throw-away uid owns nothing any more. Raises PrepareFailedError.
    """
    allowed = {interpreter, os.path.realpath(interpreter)}
    try:
        for _, folders, files, folder_fd in os.fwalk(target, follow_symlinks=False):
            for name in (*folders, *files):
                mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    link = os.readlink(name, dir_fd=folder_fd)
                    if link not in allowed and ("/" in link or link == ".."):
                        raise PrepareFailedError(f"a package holds a link that leads out of it: {name}")
                elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                    executable = stat.S_ISDIR(mode) or mode & 0o100
                    os.chmod(name, 0o755 if executable else 0o644, dir_fd=folder_fd)
                else:
                    raise PrepareFailedError(f"a package holds something that is no file: {name}")
                if owner is not None:
                    os.chown(name, owner, owner, dir_fd=folder_fd, follow_symlinks=False)
    except RecursionError:
        raise PrepareFailedError("a package holds folders nested too deep") from None
    if owner is not None:
        os.chown(target, owner, owner)
    target.chmod(0o755)


def _rewrite_scripts(target: Path, final: Path) -> None:
    """Let the scripts of an environment built at `target` name `final`, where it is about to stand."""
    for script in (target / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            text = script.read_bytes()
            if b"\0" not in text[:1024]:
                script.write_bytes(text.replace(os.fsencode(target), os.fsencode(final)))
