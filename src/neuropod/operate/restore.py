"""`neuropod restore`: puts a backup's database back, and the key and volumes that are missing.

A restore brings back an older state of the wishes while the world went on. So it raises the installation's epoch: what
runs and has no row in the older database is listed, and nothing is swept, until an administrator confirms. What was
there before is kept beside it, and no volume is ever replaced.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from neuropod.db.migrate import is_known
from neuropod.kit.keyfile import KeyFileError, read_key
from neuropod.kit.lockfile import exclusive
from neuropod.kit.secrets import SecretBox
from neuropod.kit.terminal.commands import Call, Command
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.operate import archive, databases
from neuropod.operate.archive import Manifest
from neuropod.operate.asked import read_settings
from neuropod.operate.failures import clear_failures
from neuropod.runtimes.local.disks import volumes_there
from neuropod.server.installation import lock_path, prepare_folders
from neuropod.settings import Settings


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    epoch: int
    key_written: bool
    before: Path | None  # the database that was there
    volumes: tuple[str, ...]  # put back
    kept: tuple[str, ...]  # were there already, and stay as they are


@click.command(
    "restore",
    cls=Command,
    examples=["neuropod restore neuropod.backup", "neuropod restore all.backup --with-volumes --force"],
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--with-volumes", is_flag=True, help="Also put back the backup's volumes that are not there.")
@click.option("--force", is_flag=True, help="Though there is a database: it is kept beside the restored one.")
@click.pass_obj
def restore(call: Call, file: Path, with_volumes: bool, force: bool) -> None:
    """Put back what a backup holds. No server may run meanwhile.

    Pods that were made since have no row any more. They run on, and nothing is swept, until an administrator has looked
    and confirmed: neuropod admin show-epoch, neuropod admin confirm-epoch.
    """
    settings = read_settings()
    with clear_failures(settings):
        done = put_back(settings, file, with_volumes=with_volumes, force=force)
    if call.screen.json:
        call.screen.data(
            {
                "epoch": done.epoch,
                "key_written": done.key_written,
                "before": None if done.before is None else str(done.before),
                "volumes": list(done.volumes),
                "volumes_kept": list(done.kept),
            }
        )
        return
    call.screen.say(f"Restored. This is epoch {done.epoch}: nothing is swept until you confirm it.")
    if done.before is not None:
        call.screen.say(f"The database that was there: {done.before}")
    if done.volumes or done.kept:
        call.screen.say(f"Volumes: {len(done.volumes)} put back, {len(done.kept)} were there and stay as they are.")
    call.screen.note(
        f"Start it: {call.program} up. Then look: {call.program} admin show-epoch; and confirm: "
        f"{call.program} admin confirm-epoch"
    )


def put_back(settings: Settings, file: Path, *, with_volumes: bool, force: bool) -> Restored:
    """Restore. Raises CommandError before anything was changed, and LockedError while a server runs."""
    manifest = archive.read_manifest(file)
    kind = databases.POSTGRESQL if databases.sqlite_file(settings) is None else databases.SQLITE
    if manifest.database != kind:
        raise CommandError("the backup is of another kind of database than the settings name (NEUROPOD_DATABASE_URL)")
    if not is_known(manifest.schema):
        raise CommandError(
            f"the backup was made by Neuropod {manifest.version} with a newer schema than this version knows; "
            "restore it with that version"
        )
    with ExitStack() as stack:
        prepare_folders(settings)
        stack.enter_context(exclusive(lock_path(settings)))
        present = databases.present_facts(settings)
        if present is not None and not force:
            raise CommandError(
                f"there is a database already: {databases.sqlite_file(settings) or 'on PostgreSQL'}",
                exit_code=Exit.CONFLICT,
                hints=("--force puts the backup in its place and keeps it beside", "or name another NEUROPOD_DATA_DIR"),
            )
        key_written = _settle_key(settings, manifest, file)
        same = present is not None and present.installation == manifest.installation
        epoch = max(manifest.epoch, present.epoch if present is not None and same else 0) + 1
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".restore.", dir=settings.data_dir)))
        draft = scratch / kind
        archive.take_out(file, kind, draft)
        there = set(volumes_there(settings.data_dir))
        volumes = tuple(each for each in manifest.volumes if each not in there) if with_volumes else ()
        for volume_id in volumes:
            archive.take_out_volume(file, volume_id, settings.data_dir)
        target = databases.sqlite_file(settings)
        before = None
        if target is None:
            databases.put_back_postgresql(settings, draft, epoch=epoch)
        else:
            before = databases.put_back_sqlite(draft, target, epoch=epoch)
        kept = tuple(each for each in manifest.volumes if each in there) if with_volumes else ()
        return Restored(epoch, key_written, before, volumes, kept)


def _settle_key(settings: Settings, manifest: Manifest, file: Path) -> bool:
    """Make sure that the key is the backup's; tell whether it was written now. One that is there is never replaced."""
    path = settings.effective_key_file
    if path.exists():
        try:
            key = read_key(path)
        except KeyFileError as error:
            raise CommandError(str(error)) from error
        if SecretBox(key).fingerprint != manifest.key_fingerprint:
            raise CommandError(
                f"the key in {path.absolute()} is not the one that the backup was made with",
                hints=("put the right key file there, or move this one away if the backup holds its key",),
            )
        return False
    if not manifest.has_key:
        raise CommandError(
            f"the key file {path.absolute()} is missing, and the backup does not hold it",
            hints=("put the key file of that installation there, mode 0600",),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    archive.take_out(file, "key", path)
    if SecretBox(read_key(path)).fingerprint != manifest.key_fingerprint:
        path.unlink()
        raise CommandError("the key in the backup is not the one that its database was made with")
    return True
