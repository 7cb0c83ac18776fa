"""The capped, segmented log: what is written is read again, whole, in order, and what is missing is said."""

import random
from pathlib import Path

import pytest

from neuropod.runtimes import logfiles as log
from neuropod.runtimes.logfiles import Line, LogReader, LogWriter, position_of_tail, prune, trim


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SEGMENT_BYTES", 5_000)
    monkeypatch.setattr(log, "LIVE_BYTES", 45_000)
    monkeypatch.setattr(log, "CHUNK_BYTES", 700)


def expected(text: bytes) -> list[Line]:
    lines, position = [], 0
    for line in text.split(b"\n"):
        lines.append(Line(position, line.decode()))
        position += len(line) + 1
    return lines


def written(directory: Path, seed: int, *, reader: LogReader | None = None) -> tuple[bytes, list[Line]]:
    """Write random pieces, let `reader` read now and then, and return all that was written and all that was read."""
    chance = random.Random(seed)
    writer, text, read = LogWriter(directory), b"", []
    for _ in range(100):
        block = b"".join(b"line %d %s\n" % (i, b"x" * chance.randrange(60)) for i in range(chance.randrange(40)))
        cut = chance.randrange(len(block) + 1)
        for part in (block[:cut], block[cut:]):
            writer.write(part)
            text += part
            if reader is not None and chance.random() < 0.5:
                read += list(reader.lines())
    writer.write(b"the end")
    writer.close()
    return text + b"the end", read


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_that_keeps_up_gets_every_line_and_its_position(tmp_path: Path, seed: int):
    reader = LogReader(tmp_path)

    text, read = written(tmp_path, seed, reader=reader)

    assert [*read, *reader.lines(ended=True)] == expected(text)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("lines", [0, 1, 2, 10, 200])
def test_the_tail_begins_so_many_lines_before_the_end(tmp_path: Path, seed: int, lines: int):
    text, _ = written(tmp_path, seed)

    tail = list(LogReader(tmp_path, position_of_tail(tmp_path, lines)).lines(ended=True))

    assert tail == expected(text)[len(expected(text)) - lines :]


def test_a_reader_that_fell_behind_is_told_how_much_is_missing(tmp_path: Path):
    text, _ = written(tmp_path, 1)

    first, *rest = LogReader(tmp_path).lines(ended=True)

    assert first == Line(0, f"[neuropod: {rest[0].position} bytes of log are missing here]")
    assert rest == expected(text)[-len(rest) :]
    assert len(text) - rest[0].position >= 40_000


def test_the_disk_space_of_a_live_log_is_bounded(tmp_path: Path):
    writer = LogWriter(tmp_path)

    for _ in range(1000):
        writer.write(b"x" * 999 + b"\n")

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 51_000
    writer.close()


def test_trimming_keeps_the_last_bytes_from_a_line_on_and_may_be_repeated(tmp_path: Path):
    text, _ = written(tmp_path, 3)

    trim(tmp_path, 3_000)
    trim(tmp_path, 3_000)

    gap, *rest = LogReader(tmp_path).lines(ended=True)
    assert "missing" in gap.text
    assert rest == expected(text)[-len(rest) :]
    assert 2_900 < len(text) - rest[0].position <= 3_000


def test_a_reader_in_the_middle_of_a_log_that_is_trimmed_reads_its_segment_to_the_end(tmp_path: Path):
    writer = LogWriter(tmp_path)
    writer.write(b"".join(b"line %d\n" % number for number in range(300)))
    reader = LogReader(tmp_path)
    lines = reader.lines()
    read = [next(lines)]

    trim(tmp_path, 100)
    read += list(lines)

    assert [line.text for line in read] == [f"line {number}" for number in range(300)]


def test_a_line_longer_than_a_chunk_comes_in_parts_of_bounded_size(tmp_path: Path):
    writer = LogWriter(tmp_path)
    writer.write(b"y" * 4_000 + b"\nshort\n")

    parts = list(LogReader(tmp_path).lines())

    assert "".join(part.text for part in parts[:-1]) == "y" * 4_000
    assert max(len(part.text) for part in parts) <= 1_400
    assert parts[-1].text == "short"


def test_a_full_disk_loses_lines_and_says_so_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer = LogWriter(tmp_path)
    writer.write(b"before\n")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log.os, "write", full)
        writer.write(b"lost\n")
    writer.write(b"after\n")

    texts = [line.text for line in LogReader(tmp_path).lines()]
    assert texts == ["before", "", "[neuropod: 5 bytes of log are missing: the disk was full]", "after"]


def test_nothing_known_yields_nothing(tmp_path: Path):
    assert list(LogReader(tmp_path / "none").lines(ended=True)) == []
    assert position_of_tail(tmp_path / "none", 5) == 0
    trim(tmp_path / "none", 5)


def test_older_incarnations_than_the_last_few_are_named_for_deletion(tmp_path: Path):
    for number in (1, 2, 3, 10, 11):
        (tmp_path / str(number)).mkdir()

    assert prune(tmp_path, 2) == [tmp_path / "1", tmp_path / "2", tmp_path / "3"]
