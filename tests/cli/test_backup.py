"""What a backup holds and what a restore refuses, on an installation that no server has open."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from neuropod.kit.clock import SystemClock
from neuropod.kit.lockfile import LockedError, exclusive
from neuropod.kit.terminal.exits import CommandError
from neuropod.operate import archive
from neuropod.operate.backup import write_backup
from neuropod.operate.restore import put_back
from neuropod.server.installation import assembled, lock_path
from neuropod.settings import Settings
from support.postgres import Postgres

pytestmark = pytest.mark.xdist_group("backup-files")


def _settings(folder: Path) -> Settings:
    return Settings(_env_file=None, data_dir=folder / "data", fake_runtime=True)  # type: ignore[call-arg]


def _make(settings: Settings) -> None:
    async def run() -> None:
        async with assembled(settings, SystemClock()):
            pass

    asyncio.run(run())


def _database(settings: Settings) -> Path:
    return settings.data_dir / "db" / "neuropod.sqlite3"


def _query(settings: Settings, sql: str) -> object:
    with closing(sqlite3.connect(_database(settings))) as database:
        (value,) = database.execute(sql).fetchone()
        database.commit()
    return value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """An installation with a volume, and a backup of all of it."""
    folder = tmp_path_factory.mktemp("backup")
    settings = _settings(folder)
    _make(settings)
    image = settings.data_dir / "volumes" / "vol_1.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(1 << 20)
        file.write(b"the data")
    file_ = folder / "all.backup"
    write_backup(settings, file_, with_key=True, with_volumes=True)
    return settings, file_


def test_a_backup_is_whole_private_and_says_what_it_is(made: tuple[Settings, Path]):
    settings, file = made

    manifest = archive.read_manifest(file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size < 20 << 20  # the volume's holes stay holes
    assert manifest.installation == _query(settings, "SELECT id FROM installation")
    assert manifest.schema == _query(settings, "SELECT version_num FROM alembic_version")
    assert (manifest.has_key, manifest.volumes) == (True, ("vol_1",))
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_restore_into_an_empty_place_brings_everything_and_raises_the_epoch(
    made: tuple[Settings, Path], tmp_path: Path
):
    settings, file = made
    other = _settings(tmp_path)

    done = put_back(other, file, with_volumes=True, force=False)
    again = put_back(other, file, with_volumes=True, force=True)
    _make(other)

    image = other.data_dir / "volumes" / "vol_1.img"
    assert (done.epoch, done.key_written, done.volumes, done.before) == (1, True, ("vol_1",), None)
    assert (again.epoch, again.key_written, again.volumes, again.kept) == (2, False, (), ("vol_1",))
    assert again.before is not None
    assert again.before.exists()
    assert image.read_bytes() == (settings.data_dir / "volumes" / "vol_1.img").read_bytes()
    assert image.stat().st_blocks * 512 < 4 << 20
    assert stat.S_IMODE(other.effective_key_file.stat().st_mode) == 0o600
    assert _query(other, "SELECT epoch FROM installation") == 2
    assert _query(other, "SELECT confirmed_epoch FROM installation") == 0


def test_a_database_that_is_there_is_not_replaced_without_force(made: tuple[Settings, Path]):
    settings, file = made
    before = _database(settings).read_bytes()

    with pytest.raises(CommandError, match="there is a database already"):
        put_back(settings, file, with_volumes=False, force=False)

    assert _database(settings).read_bytes() == before


def test_a_restore_beside_a_server_is_refused(made: tuple[Settings, Path]):
    settings, file = made

    with exclusive(lock_path(settings)), pytest.raises(LockedError):
        put_back(settings, file, with_volumes=False, force=True)


def test_another_key_is_refused_and_stays(made: tuple[Settings, Path], tmp_path: Path):
    _, file = made
    other = _settings(tmp_path)
    _make(other)
    key = other.effective_key_file.read_bytes()

    with pytest.raises(CommandError, match="not the one that the backup was made with"):
        put_back(other, file, with_volumes=False, force=True)

    assert other.effective_key_file.read_bytes() == key
    assert _query(other, "SELECT epoch FROM installation") == 0


def test_without_a_key_anywhere_nothing_is_restored(made: tuple[Settings, Path], tmp_path: Path):
    settings, _ = made
    file = tmp_path / "plain.backup"
    write_backup(settings, file, with_key=False, with_volumes=False)
    other = _settings(tmp_path / "other")
    other.data_dir.parent.mkdir()

    with pytest.raises(CommandError, match=r"key file .* is missing"):
        put_back(other, file, with_volumes=False, force=False)

    assert not _database(other).exists()


@pytest.mark.parametrize("at", [600, -30_000, None], ids=["the database", "the end", "cut off"])
def test_a_damaged_file_is_refused(made: tuple[Settings, Path], tmp_path: Path, at: int | None):
    _, file = made
    content = bytearray(file.read_bytes())
    if at is None:
        del content[len(content) // 2 :]
    else:
        content[at] ^= 0xFF
    damaged = tmp_path / "damaged.backup"
    damaged.write_bytes(content)

    with pytest.raises(CommandError, match="no backup of Neuropod, or a damaged one"):
        put_back(_settings(tmp_path), damaged, with_volumes=False, force=False)


def test_a_newer_schema_is_refused(made: tuple[Settings, Path], tmp_path: Path):
    settings, file = made
    newer = _settings(tmp_path)
    put_back(newer, file, with_volumes=False, force=False)
    with closing(sqlite3.connect(_database(newer))) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    write_backup(newer, tmp_path / "newer.backup", with_key=True, with_volumes=False)

    with pytest.raises(CommandError, match="newer schema"):
        put_back(settings, tmp_path / "newer.backup", with_volumes=False, force=True)


def test_a_backup_that_cannot_be_finished_leaves_nothing(made: tuple[Settings, Path], tmp_path: Path):
    settings, _ = made
    folder = tmp_path / "target"
    folder.mkdir()
    gone = settings.model_copy(update={"data_dir": tmp_path / "nothing"})

    with pytest.raises(CommandError, match="there is no database"):
        write_backup(gone, folder / "x.backup", with_key=False, with_volumes=False)

    assert list(folder.iterdir()) == []


def test_on_postgresql_the_database_goes_out_and_comes_back_by_its_own_programs(
    postgres: Postgres, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", f"{postgres.programs}:/usr/bin:/bin")
    settings = _settings(tmp_path).model_copy(update={"database_url": postgres_url})
    _make(settings)
    file = tmp_path / "one.backup"

    made = write_backup(settings, file, with_key=True, with_volumes=False)
    with pytest.raises(CommandError, match="there is a database already"):
        put_back(settings, file, with_volumes=False, force=False)
    done = put_back(settings, file, with_volumes=False, force=True)
    _make(settings)

    assert (made.database, made.epoch) == ("database.pgdump", 0)
    assert done.epoch == 1
    assert archive.read_manifest(file) == made


def test_without_postgresqls_programs_it_is_said_which_one_is_missing(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = _settings(tmp_path).model_copy(update={"database_url": postgres_url})
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CommandError, match="copied by psql, which this machine does not have"):
        write_backup(settings, tmp_path / "one.backup", with_key=False, with_volumes=False)
