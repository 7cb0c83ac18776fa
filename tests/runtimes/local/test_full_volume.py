"""A volume that is full: pods start all the same, it is told, and a larger one has room at once. On real disks."""

from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.ids import VolumeId
from neuropod.runtimes.contract import Phase, VolumeMount
from neuropod.runtimes.volumes import NoRoomError
from runtimes.local.pods import MIB, end_everything, opened, printed, python, until

VOLUME = VolumeId("vol_1")
FILL = """
import errno
with open('/workspace/big', 'wb', buffering=0) as file:
    size = 1 << 20
    while size:
        try:
            file.write(b'z' * size)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            size //= 2
print('filled')
"""
WORK = """
import os, tempfile, time
for folder in (os.environ['HOME'], '/tmp'):
    open(os.path.join(folder, 'mine'), 'w').write('x' * 100_000)
tempfile.TemporaryFile().write(b'y' * 100_000)
print('works', flush=True)
time.sleep(1000)
"""


@pytest.mark.root
async def test_a_pod_starts_and_works_though_its_volume_is_full_and_gets_room_while_it_runs(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        assert await printed(runtime, python(FILL, volume=VOLUME)) == ["filled"]
        await end_everything(runtime)
        assert (await runtime.volume_use([VOLUME]))[VOLUME].full
        pod = python(WORK, volume=VOLUME)
        await runtime.ensure(pod)
        await until(runtime, pod.id, Phase.READY)

        full = (await runtime.volume_use([VOLUME]))[VOLUME]
        now = await runtime.grow_volume(VOLUME, 128 * MIB)
        grown = (await runtime.volume_use([VOLUME]))[VOLUME]
        await end_everything(runtime)
        at_rest = (await runtime.volume_use([VOLUME]))[VOLUME]

        assert full.full
        assert at_rest.full is not now
        assert full.size_bytes - full.used_bytes < 2 * MIB  # the kernel keeps a little for itself
        # A kernel that grows no mounted file system does it at the next start, and says so.
        assert grown.grows_later is not now
        assert grown.full is not now
        mount = VolumeMount(VOLUME, "workspace", 128 * MIB)
        again = replace(python("print(open('/workspace/new', 'w').write('x' * 1_000_000))"), volume=mount)
        assert await printed(runtime, again) == ["1000000"]


@pytest.mark.root
async def test_a_growth_for_which_the_data_disk_has_no_room_is_refused(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        await printed(runtime, python("print()", volume=VOLUME))
        before = (await runtime.volume_use([VOLUME]))[VOLUME]

        with pytest.raises(NoRoomError, match="has room for"):
            await runtime.grow_volume(VOLUME, 10**15)

        assert (await runtime.volume_use([VOLUME]))[VOLUME].size_bytes == before.size_bytes
