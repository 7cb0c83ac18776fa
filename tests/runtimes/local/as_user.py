"""Running a part of a test as an ordinary user, on a machine where the tests themselves are root.

The user gets a copy of `src` and `tests` that is its own, and in a mount namespace the libraries of this environment
(which may lie below somebody's closed home) and an open /dev/net/tun, as most systems have it. Python is the system's:
the same minor version, so compiled libraries load.
"""

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

UID = 61_234
_ROOT = Path(__file__).parents[3]

_ENTER = r"""
set -e
mount --make-rprivate /
# A copy of a mount keeps its disk in use, and those of the tests beside this one are none of its own.
grep -o ' [^ ]*\.at ' /proc/self/mounts | xargs -r umount --lazy || true
mkdir "$BASE/packages" && mount --bind "$PACKAGES" "$BASE/packages"
if [ -e /dev/net/tun ]; then
    mount -t tmpfs none "$BASE/dev" && mknod -m 666 "$BASE/dev/tun" c 10 200 && mount --bind "$BASE/dev/tun" /dev/net/tun
fi
exec setpriv --reuid "$ID" --regid "$ID" --clear-groups -- /usr/bin/env -i HOME="$BASE/home" PATH=/usr/bin:/bin:/usr/sbin:/sbin \
    LANG=C.UTF-8 PYTHONPATH="$BASE/src:$BASE/tests:$BASE/packages" PYTHONDONTWRITEBYTECODE=1 \
    /usr/bin/python3 -W error -m runtimes.local.as_user "$MODULE" "$FUNCTION" "$BASE/work"
"""


def run_as_user(tmp_path: Path, module: str, function: str, *, folder: str = "security", seconds: float = 100) -> None:
    """Run the coroutine function `function(work_dir)` of a test module as the user; its failure is this test's."""
    del tmp_path  # below a folder that is root's alone
    base = Path(tempfile.mkdtemp(prefix="neuropod-user-"))
    try:
        base.chmod(0o755)
        shutil.copytree(_ROOT / "src", base / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(_ROOT / "tests", base / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("home", "work", "dev"):
            (base / name).mkdir()
        for name in ("src", "tests", "home", "work"):
            subprocess.run(["chown", "-R", f"{UID}:{UID}", str(base / name)], check=True)
        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", _ENTER],
            env={
                "BASE": str(base),
                "PACKAGES": sysconfig.get_path("purelib"),
                "ID": str(UID),
                "MODULE": f"{folder}.{module}",
                "FUNCTION": function,
                "PATH": os.environ["PATH"],
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"as uid {UID}:\n{done.stdout}\n{done.stderr}"
    finally:
        delete(base)


def delete(base: Path) -> None:
    """Delete a folder by a program that no depth of folders breaks; whoever is dying may fill it a moment longer."""
    deadline = time.monotonic() + 20
    while (done := subprocess.run(["rm", "-rf", str(base)], capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


def main() -> None:
    """Be the user's half: import the test module and run its function."""
    module, function, work = sys.argv[1:]
    asyncio.run(getattr(importlib.import_module(module), function)(Path(work)))


if __name__ == "__main__":
    main()
