"""Everything that an ordinary user must be able to do, done by one: all tests marked `user`, in a clone of his own.

In a mount namespace that has an open /dev/net/tun, as most systems do, and this environment's libraries, which may lie
below somebody's closed home. Python is the system's, of the same minor version, so that compiled libraries load.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from runtimes.local.as_user import delete

UID = 61_235
_ROOT = Path(__file__).parents[3]
_SUITES = ("tests/runtimes/local", "tests/security")
_AT_LEAST = 30

_ENTER = r"""
set -e
mount --make-rprivate /
# A copy of a mount keeps its disk in use, and those of the tests beside this one are none of its own.
grep -o ' [^ ]*\.at ' /proc/self/mounts | xargs -r umount --lazy || true
mkdir "$BASE/packages" && mount --bind "$PACKAGES" "$BASE/packages"
if [ -e /dev/net/tun ]; then
    mount -t tmpfs none "$BASE/dev" && mknod -m 666 "$BASE/dev/tun" c 10 200 && mount --bind "$BASE/dev/tun" /dev/net/tun
fi
cd "$BASE/clone"
as_user() {
    setpriv --reuid "$ID" --regid "$ID" --clear-groups -- /usr/bin/env -i HOME="$BASE/home" TMPDIR="$BASE/tmp" \
        PATH=/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH="$BASE/clone/src:$BASE/clone/tests:$BASE/packages" /usr/bin/python3 "$@"
}
# The programs that the system lacks, where support.programs looks: as tools/setup-tests fetches them.
as_user -m neuropod.runtimes.local.tools "$BASE/clone/.tools/programs"
as_user -m pytest -m user -q -p no:cacheprovider --basetemp "$BASE/tmp/pytest" $SUITES
"""


@pytest.mark.root
@pytest.mark.timeout(900)
def test_what_is_for_ordinary_users_works_for_one():
    system = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert system == [str(part) for part in sys.version_info[:2]], "the system's Python is another than this one"
    base = Path(tempfile.mkdtemp(prefix="neuropod-clone-"))
    try:
        base.chmod(0o755)
        clone = base / "clone"
        clone.mkdir()
        shutil.copy(_ROOT / "pyproject.toml", clone)
        for name in ("src", "tests"):
            shutil.copytree(_ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("home", "tmp", "dev"):
            (base / name).mkdir()
        for name in ("clone", "home", "tmp"):
            subprocess.run(["chown", "-R", f"{UID}:{UID}", str(base / name)], check=True)

        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", _ENTER],
            env={
                "BASE": str(base),
                "PACKAGES": sysconfig.get_path("purelib"),
                "ID": str(UID),
                "SUITES": " ".join(_SUITES),
                "PATH": os.environ["PATH"],
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=880,
            check=False,
        )

        assert done.returncode == 0, f"as uid {UID}:\n{done.stdout[-20000:]}\n{done.stderr[-5000:]}"
        passed = re.search(r"(\d+) passed", done.stdout)
        assert passed is not None
        assert int(passed[1]) >= _AT_LEAST, done.stdout
        assert "skipped" not in done.stdout, done.stdout
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(base)], check=False)  # no depth of folders breaks it either
        delete(base)
