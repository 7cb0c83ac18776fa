"""Disks: a size that holds, one mount for all users of a volume, nothing left by the dead, nothing followed by name."""

import errno
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.local import disks, disksizes, images
from neuropod.runtimes.local.diskplaces import DiskPlan
from neuropod.runtimes.local.disksizes import DiskFullError
from neuropod.runtimes.local.tools import Tools
from support.programs import machine_tools

MIB = 1 << 20
ROOT = os.geteuid() == 0
UID = 61_000


def plan_at(data_dir: Path, **facts: object) -> DiskPlan:
    facts = {"images": ROOT, "reserve_bytes": 0, "tools": machine_tools()} | facts
    return DiskPlan(data_dir=str(data_dir), **facts)  # type: ignore[arg-type]


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[DiskPlan]:
    """A data directory; afterwards nothing of it is mounted."""
    plan = plan_at(tmp_path)
    yield plan
    disks.sweep(plan)
    left = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if str(tmp_path) in line]
    for at in left:  # of a test that failed and holds it still
        subprocess.run(["umount", "--lazy", at], check=False)
    assert left == []


def attach(plan: DiskPlan, size_mib: int = 64, volume: str = "vol_1") -> disks.Disk:
    uid = UID if ROOT else os.getuid()
    return disks.attach_volume(plan, volume, size_bytes=size_mib * MIB, uid=uid, gid=uid)


def container_disk(plan: DiskPlan, size_mib: int = 64, name: str = "key1") -> disks.Disk:
    return disks.attach_container_disk(plan, name, size_bytes=size_mib * MIB, uid=UID, gid=UID)


def mount_of(disk: disks.Disk) -> list[str]:
    """Return device and options of the mount that a disk is."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, at, _, options, *_ = line.split()
        if at == str(disk.path.parent):
            return [device, *options.split(",")]
    return []


def devices_of(image: Path) -> int:
    """Count the loop devices that have an image open."""
    count = 0
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            count += backing.read_text().strip() == str(image)
        except OSError:
            continue  # freed meanwhile
    return count


def fill(folder: Path) -> int:
    """Write until there is no room; return how many MiB went in."""
    written = 0
    with (folder / "filling").open("wb", buffering=0) as file:
        try:
            while written < 1000:
                file.write(b"z" * MIB)
                written += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return written


def in_child(work: Callable[[], None]) -> int:
    """Run in a child of its own until it says that it is done; it then waits to be killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(writing, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.root
@pytest.mark.parametrize("kind", [attach, container_disk])
def test_a_disk_holds_its_size_and_no_more_and_takes_only_what_is_written(plan: DiskPlan, kind):
    disk = kind(plan, 100)
    image = disk.path.parent.with_suffix(".img")
    empty = image.stat().st_blocks * 512

    written = fill(disk.path)

    assert image.stat().st_size == disk.size_bytes == 100 * MIB
    assert empty < 20 * MIB
    assert 75 <= written < 100
    assert disk.used_bytes() >= written * MIB
    assert not disk.overrun()
    disk.detach()


@pytest.mark.root
def test_a_volume_is_the_owners_and_no_programs_of_roots_or_devices_come_with_it(plan: DiskPlan):
    disk = attach(plan)

    assert (disk.path.stat().st_uid, disk.path.stat().st_gid) == (UID, UID)
    assert list(disk.path.iterdir()) == []
    assert {"nosuid", "nodev"} <= set(mount_of(disk))
    # Everything above it is root's alone.
    assert disk.path.parent.parent.stat().st_mode & 0o077 == 0
    disk.detach()


@pytest.mark.root
def test_a_volume_is_mounted_once_and_shared_and_unmounted_by_the_last(plan: DiskPlan):
    first, second = attach(plan), attach(plan)
    (first.path / "file").write_text("mine")

    assert (second.path / "file").read_text() == "mine"
    assert devices_of(Path(plan.data_dir, "volumes/vol_1.img")) == 1
    first.detach()
    first.detach()
    assert (second.path / "file").read_text() == "mine"
    second.detach()

    assert not second.path.exists()
    again = attach(plan)
    assert (again.path / "file").read_text() == "mine"
    again.detach()


def can_grow_mounted() -> bool:
    """Tell whether this process has CAP_SYS_RESOURCE, which ext4 asks for; containers often lack it."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:")[1].split()[0], 16) & 1 << 24)


@pytest.mark.root
def test_a_volume_grows_at_once_or_when_nobody_uses_it_and_never_shrinks(plan: DiskPlan):
    disk = attach(plan, 64)
    (disk.path / "file").write_text("mine")

    larger = attach(plan, 256)
    now = 256 if can_grow_mounted() else 64
    assert larger.size_bytes == now * MIB
    assert now / 2 < os.statvfs(disk.path).f_blocks * 4096 / MIB <= now
    disk.detach()
    larger.detach()
    smaller = attach(plan, 32)

    assert smaller.size_bytes == 256 * MIB
    assert (smaller.path / "file").read_text() == "mine"
    assert fill(smaller.path) > 200
    smaller.detach()


@pytest.mark.root
def test_a_growth_that_was_cut_short_is_finished_by_the_next(plan: DiskPlan):
    attach(plan, 64).detach()
    images.lengthen(Path(plan.data_dir, "volumes/vol_1.img"), 200 * MIB)  # and there the server died

    disk = attach(plan, 64)

    assert disk.size_bytes == 200 * MIB
    assert fill(disk.path) > 150
    disk.detach()


@pytest.mark.root
@pytest.mark.parametrize("how_long", ["for a moment", "for long"])
def test_a_volume_that_another_mount_namespace_copied_is_attached_and_grows_once_it_is_free(plan: DiskPlan, how_long):
    disk = attach(plan, 64)
    (disk.path / "file").write_text("mine")
    copy = ["unshare", "--mount", "sh", "-c", f"echo copied; exec sleep {1 if how_long == 'for a moment' else 600}"]
    with subprocess.Popen(copy, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"copied\n"
        disk.detach()

        larger = attach(plan, 256)
        at_once = larger.size_bytes // MIB
        assert (larger.path / "file").read_text() == "mine"
        larger.detach()
        holder.kill()
    again = attach(plan, 256)

    assert at_once == (64 if how_long == "for long" and not can_grow_mounted() else 256)
    assert again.size_bytes == 256 * MIB
    assert (again.path / "file").read_text() == "mine"
    again.detach()


@pytest.mark.root
def test_what_a_dead_shim_left_mounted_is_unmounted_and_what_a_live_one_uses_is_not(plan: DiskPlan):
    dead = in_child(lambda: (attach(plan, volume="vol_1").path / "file").write_text("mine") and None)
    alive = in_child(lambda: attach(plan, volume="vol_2") and None)
    assert disks.sweep(plan) == 0

    kill(dead)

    assert disks.sweep(plan) == 1
    assert disks.sweep(plan) == 0
    mounts = Path("/proc/self/mounts").read_text()
    assert f"{plan.data_dir}/volumes/vol_1.at" not in mounts
    assert f"{plan.data_dir}/volumes/vol_2.at" in mounts
    kill(alive)
    assert disks.sweep(plan) == 1
    again = attach(plan)
    assert (again.path / "file").read_text() == "mine"
    again.detach()


@pytest.mark.root
def test_a_mount_that_a_dead_shim_left_is_taken_over(plan: DiskPlan):
    kill(in_child(lambda: (attach(plan).path / "file").write_text("mine") and None))

    disk = attach(plan)

    assert (disk.path / "file").read_text() == "mine"
    assert devices_of(Path(plan.data_dir, "volumes/vol_1.img")) == 1
    disk.detach()
    assert mount_of(disk) == []


@pytest.mark.root
def test_an_image_that_another_mount_namespace_still_holds_is_not_opened_twice(plan: DiskPlan):
    first = attach(plan)
    (first.path / "file").write_text("mine")
    holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE)
    held = Path(f"/proc/{holder.pid}/mounts")
    while str(plan.data_dir) not in held.read_text() or "cat" not in Path(f"/proc/{holder.pid}/comm").read_text():
        assert holder.poll() is None
    first.detach()

    second = attach(plan)

    # Two devices on one image would each have a file system of their own, and destroy it.
    assert devices_of(Path(plan.data_dir, "volumes/vol_1.img")) == 1
    assert (second.path / "file").read_text() == "mine"
    second.detach()
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait() == 0


def _attach_and_write(plan: DiskPlan, number: int, started, done) -> None:
    started.wait()
    disk = attach(plan)
    (disk.path / str(number)).write_text("x")
    done.wait()
    disk.detach()


@pytest.mark.root
def test_many_who_attach_a_new_volume_at_once_share_one(plan: DiskPlan):
    fork = multiprocessing.get_context("fork")
    started, done = fork.Barrier(6), fork.Barrier(7)
    children = [fork.Process(target=_attach_and_write, args=(plan, n, started, done)) for n in range(6)]
    for child in children:
        child.start()
    done.wait(30)
    for child in children:
        child.join(30)

    disk = attach(plan)

    assert [child.exitcode for child in children] == [0] * 6
    assert sorted(path.name for path in disk.path.iterdir()) == [str(number) for number in range(6)]
    disk.detach()


@pytest.mark.root
def test_a_disk_that_cannot_be_made_leaves_no_half_image(plan: DiskPlan, tmp_path: Path):
    broken = plan_at(tmp_path, tools=Tools(mkfs_ext4=("/bin/false",)))

    with pytest.raises(Exception, match="false"):
        attach(broken)

    assert list(Path(plan.data_dir, "volumes").glob("*.img")) == []
    attach(plan).detach()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data disk of 400 MiB."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0700", "none", small], check=True)
    yield small
    subprocess.run(["umount", "-R", small], check=True)


@pytest.mark.root
@pytest.mark.parametrize("with_images", [True, False])
def test_what_is_promised_never_exceeds_the_data_disk(small_disk: Path, with_images: bool):
    plan = plan_at(small_disk, images=with_images, reserve_bytes=100 * MIB)
    before = disksizes.room_bytes(plan)
    first = attach(plan, 100, "vol_1")

    with pytest.raises(DiskFullError, match="room for"):
        attach(plan, 250, "vol_2")
    with pytest.raises(DiskFullError):
        attach(plan, 350, "vol_1")

    assert 290 * MIB < before <= 300 * MIB
    assert 180 * MIB < disksizes.room_bytes(plan) <= 200 * MIB
    # A promise is counted once: what is written of it does not take more room, and who has it asks for no more.
    (first.path / "half").write_bytes(bytes(50 * MIB))
    first.used_bytes()
    os.sync()
    assert 180 * MIB < disksizes.room_bytes(plan) <= 200 * MIB
    assert disksizes.capacity_bytes(plan) <= 300 * MIB
    second = container_disk(plan, 150, "key1")
    second.detach()
    disks.remove_container_disk(plan, "key1")
    third = container_disk(plan, 150, "key2")
    for each in (first, third):
        each.detach()


@pytest.mark.root
def test_overcommitting_is_a_setting(small_disk: Path):
    plan = plan_at(small_disk, overcommit=True)

    disk = attach(plan, 4000)

    assert disk.size_bytes == 4000 * MIB
    disk.detach()


@pytest.mark.root
@pytest.mark.user
def test_a_container_disk_is_gone_after_its_removal_and_empty_the_next_time(plan: DiskPlan):
    disk = container_disk(plan)
    (disk.path / "file").write_text("gone soon")
    if ROOT:
        disk.detach()  # a killed shim's would still be mounted

    disks.remove_container_disk(plan, "key1")
    disks.remove_container_disk(plan, "key1")
    disks.remove_container_disk(plan, "key_that_never_was")

    home = Path(plan.data_dir, "disks")
    assert [path.name for path in home.iterdir() if not path.name.startswith(".")] == []
    assert list((home / ".locks").iterdir()) == []
    again = container_disk(plan)
    assert list(again.path.iterdir()) == []
    again.detach()


@pytest.mark.root
def test_the_disk_of_a_killed_shim_is_removed_although_it_is_mounted(plan: DiskPlan):
    kill(in_child(lambda: container_disk(plan) and None))

    disks.remove_container_disk(plan, "key1")

    assert not Path(plan.data_dir, "disks/key1.img").exists()
    assert str(plan.data_dir) not in Path("/proc/self/mounts").read_text()


@pytest.mark.root
@pytest.mark.user
@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".blank", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(plan: DiskPlan, name: str):
    with pytest.raises(ValueError, match="cannot name a disk"):
        attach(plan, volume=name)


def dig(top: Path, depth: int) -> None:
    """Make so many folders, each in the last one, with a closed one at the bottom; no path is that long."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.mkdir("closed", dir_fd=fd)
    os.mkdir("closed/within", dir_fd=fd)
    os.chmod("closed", 0, dir_fd=fd)
    os.close(fd)


@pytest.mark.root
@pytest.mark.user
def test_whatever_is_in_a_folder_it_is_deleted_and_nothing_else(plan: DiskPlan, tmp_path: Path):
    outside, doomed = tmp_path / "outside", tmp_path / "doomed"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    doomed.mkdir()
    for name, target in (("link", outside), ("file", outside / "precious"), ("root", Path("/")), ("up", Path(".."))):
        (doomed / name).symlink_to(target)
    os.link(outside / "precious", doomed / "hard")
    os.mkfifo(doomed / "fifo")
    dig(doomed, 1500)
    (tmp_path / "linked").symlink_to(outside)

    for path in (doomed, tmp_path / "linked", tmp_path / "never-was"):
        disks.delete_tree(plan, path)
        disks.delete_tree(plan, path)

    assert not doomed.exists()
    assert not (tmp_path / "linked").is_symlink()
    assert (outside / "precious").read_text() == "precious"


@pytest.mark.root
@pytest.mark.user
def test_a_folder_is_measured_however_deep_and_no_link_is_followed(tmp_path: Path):
    folders = plan_at(tmp_path, images=False)
    disk = disks.attach_volume(folders, "vol_1", size_bytes=20 * MIB, uid=os.getuid(), gid=os.getgid())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "big").write_bytes(bytes(30 * MIB))
    (disk.path / "link").symlink_to(elsewhere)
    (disk.path / "file").symlink_to(elsewhere / "big")
    dig(disk.path, 1500)
    with (disk.path / "sparse").open("wb") as file:
        file.truncate(100 * MIB)

    small = disk.used_bytes()
    assert not disk.overrun()
    (disk.path / "real").write_bytes(os.urandom(21 * MIB))
    os.link(disk.path / "real", disk.path / "the same again")

    assert 1500 * 512 <= small < 20 * MIB
    assert disk.overrun()
    assert 21 * MIB <= disk.used_bytes() - small < 22 * MIB
    disk.detach()
    disks.delete_tree(folders, disk.path)


@pytest.mark.root
@pytest.mark.user
def test_a_folder_that_is_full_already_may_be_entered_and_not_be_filled_on(tmp_path: Path):
    folders = plan_at(tmp_path, images=False)
    disk = disks.attach_volume(folders, "vol_1", size_bytes=20 * MIB, uid=os.getuid(), gid=os.getgid())
    (disk.path / "much").write_bytes(os.urandom(30 * MIB))
    ended = disk.overrun()
    disk.detach()

    again = disks.attach_volume(folders, "vol_1", size_bytes=20 * MIB, uid=os.getuid(), gid=os.getgid())
    entered = again.overrun()
    (again.path / "more").write_bytes(os.urandom(20 * MIB))

    assert (ended, entered, again.overrun()) == (True, False, True)


@pytest.mark.root
@pytest.mark.user
def test_a_folder_grows_while_it_is_used(tmp_path: Path):
    folders = plan_at(tmp_path, images=False)
    disk = disks.attach_volume(folders, "vol_1", size_bytes=20 * MIB, uid=os.getuid(), gid=os.getgid())
    (disk.path / "much").write_bytes(os.urandom(30 * MIB))

    assert disk.overrun()
    assert disks.grow_volume(folders, "vol_1", 40 * MIB)
    assert not disk.overrun()


@pytest.mark.root
@pytest.mark.user
def test_files_without_content_count_too(tmp_path: Path):
    folders = plan_at(tmp_path, images=False)
    disk = disks.attach_volume(folders, "vol_1", size_bytes=MIB, uid=os.getuid(), gid=os.getgid())

    for number in range(3000):
        (disk.path / str(number)).touch()

    assert disk.overrun()
    disk.detach()


@pytest.mark.user
def test_as_a_user_a_folder_is_promised_what_it_was_asked_for(tmp_path: Path):
    folders = plan_at(tmp_path, images=False)
    everything = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize

    with pytest.raises(DiskFullError, match="room for"):
        attach(folders, everything // MIB + 1)
    attach(plan_at(tmp_path, images=False, overcommit=True), everything // MIB + 1).detach()

    assert disksizes.room_bytes(folders) == 0


def test_a_plan_survives_the_way_through_json():
    plan = DiskPlan("/data", True, Tools(rm=("/bin/rm",)), overcommit=True, reserve_bytes=7)

    assert DiskPlan.from_json(plan.as_json()) == plan
