"""How full volumes are, as the server sees them: folders that are scanned while somebody waits, or goes on waiting."""

import os
import threading
from pathlib import Path

import pytest

from neuropod.ids import VolumeId
from neuropod.runtimes.local import disks, disksizes, keeping
from neuropod.runtimes.local.diskplaces import DiskPlan
from support.programs import machine_tools

MADE, UNMADE = VolumeId("vol_made"), VolumeId("vol_unmade")


@pytest.fixture
def plan(tmp_path: Path) -> DiskPlan:
    plan = DiskPlan(data_dir=str(tmp_path), images=False, tools=machine_tools(), reserve_bytes=0)
    uid, gid = os.getuid(), os.getgid()
    disk = disks.attach_volume(plan, MADE, size_bytes=64 << 20, uid=uid, gid=gid)
    (disk.path / "data").write_bytes(b"x" * 4096)
    return plan


async def test_a_folder_that_nobody_has_measured_yet_is_there_all_the_same(
    plan: DiskPlan, monkeypatch: pytest.MonkeyPatch
):
    go_on, measure = threading.Event(), disksizes.measure

    def slowly(*arguments: object) -> int:
        go_on.wait()
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(disksizes, "measure", slowly)
    monkeypatch.setattr(keeping, "_WAIT_SECONDS", 0)
    keeper = keeping.VolumeKeeper()

    meanwhile = await keeper.use(plan, [MADE, UNMADE])
    go_on.set()
    monkeypatch.setattr(keeping, "_WAIT_SECONDS", 30)
    afterwards = await keeper.use(plan, [MADE, UNMADE])
    await keeper.aclose()

    assert meanwhile == {MADE: None}
    assert list(afterwards) == [MADE]
    assert afterwards[MADE] is not None
    assert afterwards[MADE].used_bytes >= 4096
