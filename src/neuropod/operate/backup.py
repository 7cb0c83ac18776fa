"""`neuropod backup`: one file with the database, and on request the key and the volumes. The server may run on."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from neuropod import __version__
from neuropod.kit.clock import SystemClock
from neuropod.kit.keyfile import KeyFileError, read_key
from neuropod.kit.secrets import SecretBox
from neuropod.kit.terminal.commands import Call, Command
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.operate import databases
from neuropod.operate.archive import Archive, Manifest, writing
from neuropod.operate.asked import read_settings
from neuropod.operate.failures import clear_failures
from neuropod.runtimes.local.diskplaces import DiskInUseError
from neuropod.runtimes.local.disks import at_rest, volumes_there
from neuropod.settings import Settings


@click.command(
    "backup",
    cls=Command,
    examples=["neuropod backup neuropod.backup", "neuropod backup all.backup --with-key --with-volumes"],
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--with-key", is_flag=True, help="The encryption key too: who has the file then has all secrets.")
@click.option("--with-volumes", is_flag=True, help="People's volumes too; no pod may use one meanwhile.")
@click.option("--replace", is_flag=True, help="Replace FILE where it exists.")
@click.pass_obj
def backup(call: Call, file: Path, with_key: bool, with_volumes: bool, replace: bool) -> None:
    """Write a backup to FILE, readable by you alone, while the server runs.

    It holds the database. Keep the key file apart from it, or say --with-key: without the key, secrets are lost.
    """
    settings = read_settings()
    if file.exists() and not replace:
        raise CommandError(f"{file} exists", exit_code=Exit.CONFLICT, hints=("choose another name, or say --replace",))
    with clear_failures(settings):
        made = write_backup(settings, file, with_key=with_key, with_volumes=with_volumes)
    if call.screen.json:
        call.screen.data(
            {"file": str(file), "volumes": list(made.volumes), "has_key": made.has_key, "epoch": made.epoch}
        )
        return
    call.screen.say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {_holds(made)}")
    if not made.has_key:
        call.screen.note(f"Keep the key file too, apart from it: {settings.effective_key_file.absolute()}")


def _holds(made: Manifest) -> str:
    volumes = f", {len(made.volumes)} volumes" if made.volumes else ""
    return f"the database{', the key' if made.has_key else ''}{volumes}"


def write_backup(settings: Settings, file: Path, *, with_key: bool, with_volumes: bool) -> Manifest:
    """Write a backup. Raises CommandError; then nothing is left of it."""
    volumes = volumes_there(settings.data_dir) if with_volumes else []
    _require_rest(settings, volumes)
    with ExitStack() as stack:
        # Beside the file, where there has to be room anyway.
        parent = file.absolute().parent
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=parent)))
        archive = stack.enter_context(writing(file))
        kind = databases.POSTGRESQL if databases.sqlite_file(settings) is None else databases.SQLITE
        copy = scratch / kind
        facts = databases.copy_out(settings, copy)
        archive.add_file(copy, kind)
        if with_key:
            archive.add_bytes(_key(settings, facts.key_fingerprint), "key")
        for volume_id in volumes:
            _add_volume(settings, archive, volume_id)
        return archive.finish(
            Manifest(
                version=__version__,
                made_at=SystemClock().now().isoformat(),
                schema=facts.schema,
                installation=facts.installation,
                epoch=facts.epoch,
                key_fingerprint=facts.key_fingerprint,
                database=kind,
                database_bytes=copy.stat().st_size,
                has_key=with_key,
                volumes=tuple(volumes),
            )
        )


def _key(settings: Settings, fingerprint: str) -> bytes:
    path = settings.effective_key_file
    try:
        key = read_key(path)
    except KeyFileError as error:
        raise CommandError(str(error)) from error
    if SecretBox(key).fingerprint != fingerprint:
        raise CommandError(f"the key in {path} is not the database's")
    return path.read_bytes()


def _require_rest(settings: Settings, volumes: list[str]) -> None:
    """Raise CommandError that names every volume that a pod uses: a copy of one that changes is worth nothing."""
    used = []
    for volume_id in volumes:
        try:
            with at_rest(settings.data_dir, volume_id):
                pass
        except DiskInUseError:
            used.append(volume_id)
    if used:
        raise CommandError(
            f"pods use these volumes now: {', '.join(used)}",
            exit_code=Exit.CONFLICT,
            hints=("stop those pods first (neuropod volume ls --all)", "or leave out --with-volumes"),
        )


def _add_volume(settings: Settings, archive: Archive, volume_id: str) -> None:
    try:
        with at_rest(settings.data_dir, volume_id) as paths:
            archive.add_below(settings.data_dir, paths)
    except DiskInUseError as error:
        raise CommandError(f"{error}; it began while the backup was made", exit_code=Exit.CONFLICT) from error
