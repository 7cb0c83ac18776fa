"""A uid of the host for each owner of pods, never given to another (SECURITY 5).

Called by `runtime` in mode root. The numbers start at 200,000 plus a block that the installation's id chooses, so that
two installations on one machine rarely meet. They are kept in one small file and never taken back: files of an owner
may remain for years, and there are two thousand million numbers.
"""

import fcntl
import hashlib
import json
import os
from pathlib import Path

from neuropod.runtimes.local.state import write_file

FIRST_UID = 200_000
_BLOCK = 65_536
_BLOCKS = 16_000  # the highest is below 2^30, far from what builds use


class OwnersFullError(Exception):
    """There are more owners than numbers in the installation's block."""


class Owners:
    """The file `owners.json`."""

    def __init__(self, directory: Path, installation: str) -> None:
        self._path = directory / "owners.json"
        self._lock = directory / "owners.lock"
        digest = hashlib.sha256(installation.encode()).digest()
        self._base = FIRST_UID + int.from_bytes(digest[:4]) % _BLOCKS * _BLOCK

    def uid_of(self, owner: str) -> int:
        """Return the owner's uid, assigned now and written down before it is answered when there was none."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read()
            if owner not in known:
                uid = max((uid + 1 for uid in known.values()), default=self._base)
                if uid >= self._base + _BLOCK:
                    raise OwnersFullError(f"all {_BLOCK} uids of this installation are given away")
                known[owner] = uid
                write_file(self._path, json.dumps(known, indent=0).encode(), sync=True)
            return known[owner]
        finally:
            os.close(lock)

    def _read(self) -> dict[str, int]:
        try:
            return dict(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return {}
