"""SECURITY 5: links that a pod leaves in its disks lead nobody astray: not at start, size, grow, or delete."""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from runtimes.local.pods import MIB, opened, printed, python

pytestmark = pytest.mark.root

# Everywhere that the host might ever look: the roots' own names, folders that it makes, and deep below.
PLANT = """
import os, shutil
targets = {targets!r}
for home in ('/workspace', '/home/pod', '/tmp', '/var/tmp'):
    for number, target in enumerate(targets):
        os.symlink(target, f'{{home}}/link{{number}}')
        for name in ('home', 'tmp', 'venv', 'var-tmp', 'lost+found.', 'data'):
            path = f'{{home}}/{{name}}{{number or ""}}'
            if not os.path.lexists(path):
                os.symlink(target, path)
    os.symlink('/proc/1/root', f'{{home}}/root'); os.symlink('..', f'{{home}}/up'); os.mkfifo(f'{{home}}/fifo')
print('planted')
"""


def fingerprint(path: Path) -> tuple[object, ...]:
    """Return what must not change about a file or folder."""
    facts = path.stat()
    content = sorted(path.iterdir()) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return facts.st_uid, facts.st_gid, facts.st_mode, facts.st_ino, content


@pytest.mark.user
async def test_links_to_system_files_the_database_and_a_neighbour_change_nothing(tmp_path: Path):
    data = tmp_path / "data"
    async with opened(data) as runtime:
        neighbour = python("open('/workspace/mine', 'w').write('mine')", owner="usr_2", volume="vol_2")
        await printed(runtime, neighbour)
        database = data / "db" / "neuropod.sqlite3"
        database.parent.mkdir()
        database.write_bytes(b"precious")
        guarded = [Path("/etc/passwd"), Path("/etc"), database, database.parent]
        guarded += [path for path in (Path("/etc/shadow"), Path("/etc/gshadow")) if os.access(path, os.R_OK)]
        before = {path: fingerprint(path) for path in guarded}
        targets = [
            "/etc/shadow",
            *(str(path) for path in guarded),
            *(str(path) for path in sorted((data / "volumes").iterdir())),
        ]

        first = python(PLANT.format(targets=targets), owner="usr_1", volume="vol_1")
        await printed(runtime, first)
        await runtime.capacity()
        await runtime.remove(first.id)
        # Started again, on the volume as it was left, and grown.
        second = python(
            "print(len(__import__('os').listdir('/workspace')))", pod=first.id.pod, incarnation=2, volume="vol_1"
        )
        grown = dataclasses.replace(second, volume=dataclasses.replace(second.volume, size_bytes=96 * MIB))
        lines = await printed(runtime, grown)
        await runtime.remove(grown.id)
        await runtime.forget(grown.id)

        assert int(lines[0]) > len(targets)
        assert {path: fingerprint(path) for path in guarded} == before
        last = python("print(open('/workspace/mine').read())", owner="usr_2", volume="vol_2")
        assert await printed(runtime, last) == ["mine"]


@pytest.mark.user
async def test_no_pod_sees_the_state_the_logs_or_the_data_directory(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        look = (
            f"import os; print([os.path.exists(p) for p in ({str(tmp_path)!r}, '/root', '/work', '/data', '/var/log')])"
        )
        lines = await printed(runtime, python(look, volume="vol_1"))

        assert lines == [str([False] * 5)]
        for path in (tmp_path / "data" / "pods").rglob("*"):
            assert path.stat().st_uid == os.geteuid()
            assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path


async def test_owners_have_different_uids_and_one_owner_always_the_same(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        who = "import os; print(os.getuid())"
        first, again, other = [
            (await printed(runtime, python(who, owner=owner)))[0] for owner in ("usr_1", "usr_1", "usr_2")
        ]

    assert first == again != other
    assert os.getuid() == 0
