"""The file that a backup is: a tar archive, to be looked into by hand. Written by `backup`, read by `restore`.

    database.sqlite3 | database.pgdump    the database
    key                                   the encryption key, where that was asked for
    volumes/…                             images as sparse files, folders as they are, where that was asked for
    manifest.json                         last: what all this is, with the SHA-256 of every byte before it

It appears whole, by one rename, readable by its owner alone. Volumes go through GNU tar, which knows sparse files and
folders of any depth.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from neuropod.kit.terminal.exits import CommandError

FORMAT = 1
MANIFEST = "manifest.json"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is."""

    version: str  # of the Neuropod that made it
    made_at: str
    schema: str  # the database's revision
    installation: str
    epoch: int
    key_fingerprint: str
    database: str  # the member's name
    database_bytes: int
    has_key: bool
    volumes: tuple[str, ...]  # ids
    format: int = FORMAT
    archive_bytes: int = 0  # before the manifest
    archive_sha256: str = ""


class Archive:
    """A backup that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add_file(self, source: Path, name: str) -> None:
        """Add a file of ours."""
        with tarfile.open(self._path, "a", format=tarfile.GNU_FORMAT) as archive:
            archive.add(source, name, recursive=False)

    def add_bytes(self, content: bytes, name: str) -> None:
        """Add a small file."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        with tarfile.open(self._path, "a", format=tarfile.GNU_FORMAT) as archive:
            archive.addfile(member, io.BytesIO(content))

    def add_below(self, folder: Path, paths: Sequence[Path]) -> None:
        """Add files and folders with all that is in them, named from `folder` on; holes stay holes."""
        names = [str(path.relative_to(folder)) for path in paths]
        options = ["--append", "--sparse", "--numeric-owner", "--format=gnu", "--one-file-system"]
        run_tar([*options, "--file", str(self._path), "--directory", str(folder), "--", *names])

    def finish(self, manifest: Manifest) -> Manifest:
        """Write the manifest, which vouches for all before it."""
        size = _end_of(self._path)
        done = replace(manifest, archive_bytes=size, archive_sha256=_hash(self._path, size))
        self.add_bytes(json.dumps(asdict(done), indent=2).encode() + b"\n", MANIFEST)
        return done


@contextmanager
def writing(path: Path) -> Iterator[Archive]:
    """Give an archive to write, which appears at `path` when the block ends well, and else leaves nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with tarfile.open(draft, "w", format=tarfile.GNU_FORMAT):
            pass
        yield Archive(draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
    """Return what a backup is, once all of it was compared with its checksum. Raises CommandError."""
    broken = f"{path} is no backup of Neuropod, or a damaged one"
    try:
        with tarfile.open(path, "r:") as archive:
            member = archive.getmember(MANIFEST)
            file = archive.extractfile(member)
            data = json.loads(b"" if file is None else file.read())
        if data.get("format", FORMAT + 1) > FORMAT:
            raise CommandError(f"{path} was made by Neuropod {data.get('version')}, which is newer than this one")
        manifest = Manifest(**{**data, "volumes": tuple(data["volumes"])})
    except (tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise CommandError(f"{broken} ({error})") from error
    if member.offset != manifest.archive_bytes or _hash(path, manifest.archive_bytes) != manifest.archive_sha256:
        raise CommandError(f"{broken}: its checksum differs")
    return manifest


def take_out(path: Path, name: str, target: Path) -> None:
    """Write a member of ours to `target`, 0600, all or nothing."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(path, "r:") as archive:
            source = archive.extractfile(name)
            if source is None:
                raise CommandError(f"{path} holds no {name}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
                file.flush()
                os.fsync(file.fileno())
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


def take_out_volume(path: Path, volume_id: str, folder: Path) -> None:
    """Write a volume's files below `folder`; nothing that is there is replaced."""
    options = ["--extract", "--numeric-owner", "--preserve-permissions", "--keep-old-files"]
    names = [f"volumes/{volume_id}", f"volumes/{volume_id}.img", f"volumes/{volume_id}.size"]
    with tarfile.open(path, "r:") as archive:
        there = [name for name in names if _has(archive, name)]
    run_tar([*options, "--file", str(path), "--directory", str(folder), "--", *there])


def _has(archive: tarfile.TarFile, name: str) -> bool:
    try:
        archive.getmember(name)
    except KeyError:
        return False
    return True


def run_tar(words: Sequence[str]) -> None:
    """Run GNU tar. Raises CommandError with what it said."""
    tar = shutil.which("tar")
    if tar is None:
        raise CommandError("volumes are packed by GNU tar, which this machine does not have", hints=("install tar",))
    done = subprocess.run([tar, *words], capture_output=True, text=True, check=False, env={"LC_ALL": "C"})
    if done.returncode:
        raise CommandError(f"tar failed: {done.stderr.strip()[-500:]}")


def _end_of(path: Path) -> int:
    """Return where the next member would be written: behind the last one, before the empty blocks."""
    with tarfile.open(path, "a", format=tarfile.GNU_FORMAT) as archive:
        return int(archive.offset)


def _hash(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(_CHUNK, size))):
            digest.update(chunk)
            size -= len(chunk)
    return "" if size else digest.hexdigest()
