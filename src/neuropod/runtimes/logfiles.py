"""The log of one incarnation: capped segments on disk, written by `local`'s shim or from a cluster, read by the server.

A segment is a file named by the position of its first byte, so positions are absolute and a reader notices what was
dropped. While the pod runs the last `LIVE_BYTES` are kept, which is what a follower may fall behind; `trim` cuts to
what is kept of an ended incarnation. A full disk loses lines and never the pod: the writer counts what it could not
write and says so. Standard library only.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEGMENT_BYTES = 1 << 20
LIVE_BYTES = 9 << 20
CHUNK_BYTES = 64 << 10
_SUFFIX = ".log"


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its newline, and how many bytes of log stand before it."""

    position: int
    text: str


def _segments(directory: Path) -> list[tuple[int, Path]]:
    """Return position and path of the segments, in order."""
    try:
        names = [path.name for path in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((int(name[: -len(_SUFFIX)]), directory / name) for name in names if name.endswith(_SUFFIX))


def _path(directory: Path, position: int) -> Path:
    return directory / f"{position:016d}{_SUFFIX}"


class LogWriter:
    """Appends output; owned by one shim."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._file: int | None = None
        self._start = 0  # of the open segment
        self._lost = 0
        self.position = 0

    def write(self, data: bytes) -> None:
        """Append; a failing disk is noted and never raised."""
        if self._lost:
            data = f"\n[neuropod: {self._lost} bytes of log are missing: the disk was full]\n".encode() + data
        try:
            self._write(data)
        except OSError:
            self._lost += len(data)
            return
        self._lost = 0

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._open_segment()
        elif self.position - self._start >= SEGMENT_BYTES:
            # Cut after a newline, so that a reader that starts at a segment starts at a line.
            cut = data.find(b"\n") + 1
            if cut or self.position - self._start >= 2 * SEGMENT_BYTES:
                self._append(data[:cut])
                data = data[cut:]
                self._open_segment()
        self._append(data)

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._file is not None:
            written = os.write(self._file, view)
            self.position += written
            view = view[written:]

    def _open_segment(self) -> None:
        fd = os.open(
            _path(self._directory, self.position), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        if self._file is not None:
            os.close(self._file)
        self._file, self._start = fd, self.position
        segments = _segments(self._directory)
        for (_, path), (following, _) in itertools.pairwise(segments):
            if self.position - following >= LIVE_BYTES - SEGMENT_BYTES:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the segment; may be repeated."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def trim(directory: Path, keep_bytes: int) -> None:
    """Keep the last `keep_bytes` of an ended log, cut after a newline; may be repeated, leaves a gone log gone."""
    segments = _segments(directory)
    if not segments:
        return
    last, path = segments[-1]
    start = max(0, last + path.stat().st_size - keep_bytes)
    for position, path in segments:
        size = path.stat().st_size
        if position + size <= start:
            path.unlink()
        elif position < start:
            with path.open("rb") as file:
                file.seek(start - position)
                rest = file.read()
            cut = rest.find(b"\n") + 1
            temporary = directory / "trimmed"
            temporary.write_bytes(rest[cut:])
            temporary.replace(_path(directory, start + cut))
            path.unlink()


def prune(logs_directory: Path, keep_incarnations: int) -> list[Path]:
    """Return the log folders of incarnations older than the last `keep_incarnations`; the caller deletes them."""
    try:
        numbers = sorted(int(path.name) for path in logs_directory.iterdir() if path.name.isdigit())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [logs_directory / str(number) for number in numbers[:-keep_incarnations]]


class LogReader:
    """Reads a log from a position on; `lines` may be called again when more was written.

    Holds at most one chunk and one unfinished line. A line longer than a chunk comes in parts.
    """

    def __init__(self, directory: Path, position: int = 0) -> None:
        self._directory = directory
        self._file: int | None = None
        self._start: int | None = None  # of the open segment
        self._gap_ends_at = 0
        self._position = position
        self._rest = b""

    def lines(self, *, ended: bool = False) -> Iterator[Line]:
        """Yield the complete lines there are; with `ended` the unfinished last one too."""
        while True:
            chunk = self._read()
            if isinstance(chunk, Line):
                yield from self._unfinished()
                yield chunk
                self._position = self._gap_ends_at
                continue
            if not chunk:
                break
            yield from self._split(chunk)
        if ended:
            yield from self._unfinished()

    def _split(self, chunk: bytes) -> Iterator[Line]:
        data = self._rest + chunk
        begin = 0
        while (end := data.find(b"\n", begin)) >= 0:
            yield Line(self._position, data[begin:end].decode("utf-8", "replace"))
            self._position += end + 1 - begin
            begin = end + 1
        self._rest = data[begin:]
        if len(self._rest) > CHUNK_BYTES:
            yield from self._unfinished()

    def _unfinished(self) -> Iterator[Line]:
        if self._rest:
            yield Line(self._position, self._rest.decode("utf-8", "replace"))
            self._position += len(self._rest)
            self._rest = b""

    def _read(self) -> bytes | Line:
        """Return the next bytes, none when there are none yet, or the line that tells of a gap."""
        if chunk := self._read_open():
            return chunk
        here = self._position + len(self._rest)
        segments = _segments(self._directory)
        if self._file is None:
            covering = [segment for segment in segments if segment[0] <= here]
            if covering and self._open(*covering[-1], here):
                return self._read_open()
        later = [segment for segment in segments if segment[0] >= here and segment[0] != self._start]
        # It may have grown between the read and the look at the directory: only a second empty read is its end.
        if not later or (chunk := self._read_open()):
            return chunk
        position, path = later[0]
        if not self._open(position, path, position):
            return b""  # dropped meanwhile; the next call finds what is left
        if position == here:
            return self._read_open()
        line = Line(here, f"[neuropod: {position - here} bytes of log are missing here]")
        self._gap_ends_at = position
        return line

    def _read_open(self) -> bytes:
        return b"" if self._file is None else os.read(self._file, CHUNK_BYTES)

    def _open(self, start: int, path: Path, here: int) -> bool:
        """Open a segment at a position of the log; False when it does not reach that far or is gone."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if os.fstat(fd).st_size < here - start:
            os.close(fd)
            return False
        os.lseek(fd, here - start, os.SEEK_SET)
        self.close()
        self._file, self._start = fd, start
        return True

    def close(self) -> None:
        """Close the segment; may be repeated."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def position_of_tail(directory: Path, lines: int) -> int:
    """Return the position where the last `lines` lines begin; the log's end for none."""
    segments = _segments(directory)
    missing = lines
    for position, path in reversed(segments):
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            offset = end
            while offset > 0:
                begin = max(0, offset - CHUNK_BYTES)
                file.seek(begin)
                chunk = file.read(offset - begin)
                if (position, offset) == (segments[-1][0], end) and not chunk.endswith(b"\n"):
                    missing -= 1  # an unfinished line counts
                    if missing < 0:
                        return position + end
                at = len(chunk)
                while (at := chunk.rfind(b"\n", 0, at)) >= 0:
                    missing -= 1
                    if missing < 0:
                        return position + begin + at + 1
                offset = begin
    return segments[0][0] if segments else 0
