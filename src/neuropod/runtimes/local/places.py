"""The directories of pods below `<data dir>/pods`: which incarnations stand, and how one comes and goes.

Called by `runtime`, in threads, under its lock of the pod. A state directory appears complete, by one rename, and goes
the same way; a directory whose name begins with a dot is on its way in or out and is swept at the next open.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.state import State, read_state, write_file


class PodDirectories:
    """`<data dir>/pods`."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "pods"

    def prepare(self) -> None:
        """Make the root and take away what was on its way when a server died."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for pod in self.pods():
            for path in (self.root / pod).iterdir():
                if path.name.startswith("."):
                    shutil.rmtree(path, ignore_errors=True)

    def pods(self) -> list[str]:
        """Return the pods that have a directory."""
        try:
            return sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def incarnations(self, pod: str) -> list[int]:
        """Return the numbers of the incarnations that stand, the newest first."""
        try:
            numbers = (int(path.name) for path in (self.root / pod).iterdir() if path.name.isdigit())
            return sorted(numbers, reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def state_dir(self, pod: str, incarnation: int) -> Path:
        """Return where an incarnation's state is."""
        return self.root / pod / str(incarnation)

    def log_dir(self, pod: str, incarnation: int) -> Path:
        """Return where an incarnation's log is."""
        return self.root / pod / "logs" / str(incarnation)

    def states(self) -> Iterator[tuple[str, int, State | None]]:
        """Yield every incarnation that stands with its state, None where there is none that can be understood."""
        for pod in self.pods():
            for incarnation in self.incarnations(pod):
                state = None
                with suppress(ValueError):
                    state = read_state(self.state_dir(pod, incarnation))
                yield pod, incarnation, state

    def place(self, plan: Plan) -> None:
        """Let the state directory be there with its plan; one that is there gets the new plan."""
        final = plan.state_dir
        content = json.dumps(plan.to_json()).encode()
        if final.is_dir():
            write_file(final / "plan.json", content)
            return
        final.parent.mkdir(mode=0o700, exist_ok=True)
        coming = final.with_name(f".{final.name}.{secrets.token_hex(4)}")
        coming.mkdir(mode=0o700)
        write_file(coming / "plan.json", content)
        coming.rename(final)

    def take_away(self, state_dir: Path) -> None:
        """Remove a state directory (a few small files of ours, nothing of the pod's); may be repeated."""
        going = state_dir.with_name(f".{state_dir.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            state_dir.rename(going)
            shutil.rmtree(going, ignore_errors=True)
        self._drop_empty(state_dir.parent)

    def drop_logs(self, pod: str) -> None:
        """Remove all logs of a pod, and its directory when nothing else is in it; may be repeated."""
        shutil.rmtree(self.root / pod / "logs", ignore_errors=True)
        self._drop_empty(self.root / pod)

    @staticmethod
    def _drop_empty(directory: Path) -> None:
        with suppress(OSError):
            directory.rmdir()
