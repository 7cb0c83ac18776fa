"""What is read of a machine's GPUs, and which of them are given out. NVML is played; no GPU is here."""

from pathlib import Path

import pytest

from neuropod.runtimes.local.devices import Gpu, MachineGpus, device_nodes, notes_on
from neuropod.runtimes.local.driverfiles import chosen, libraries_in, proc_files
from neuropod.runtimes.local.nvml import NvmlReader
from support.nvml import FakeGpu, FakeNvml


def two_gpus() -> FakeNvml:
    return FakeNvml([FakeGpu("GPU-a", minor=3), FakeGpu("GPU-b", "NVIDIA GeForce RTX 4070", bus_id="00000000:C1:00.0")])


def test_the_driver_tells_what_there_is():
    reading = NvmlReader(two_gpus()).read()

    assert reading.gpus == (
        Gpu("GPU-a", "NVIDIA GeForce RTX 4090", 3, 0, 24 * 2**30, "0000:01:00.0"),
        Gpu("GPU-b", "NVIDIA GeForce RTX 4070", 0, 1, 24 * 2**30, "0000:c1:00.0"),
    )
    assert "RTX 4070, 24 GiB, GPU-b" in notes_on(reading)[1]


def test_a_machine_without_a_driver_is_no_error_and_says_so():
    reading = NvmlReader(FakeNvml(absent="NVML Shared Library Not Found")).read()

    assert reading.gpus == ()
    (note,) = notes_on(reading)
    assert note.startswith("GPUs: none.")
    assert "NVML Shared Library Not Found" in note


def test_the_real_library_is_asked_and_never_fails_where_there_is_none():
    reader = NvmlReader()

    reading = reader.read()
    reader.close()

    assert bool(reading.gpus) is not bool(reading.why_none)


def test_a_driver_that_comes_later_is_found():
    nvml = FakeNvml([FakeGpu("GPU-a")], absent="Driver Not Loaded")
    reader = NvmlReader(nvml)
    assert reader.read().gpus == ()

    nvml.absent = None

    assert [gpu.name for gpu in reader.read().gpus] == ["GPU-a"]
    reader.close()
    assert nvml.inits == 0


def test_a_gpu_that_the_settings_leave_to_others_is_told_and_not_given_out(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
        (tmp_path / "dev" / name).chmod(0o666)

    some = MachineGpus(NvmlReader(two_gpus()), root=tmp_path, given=("GPU-b",)).read("user")
    none = MachineGpus(NvmlReader(two_gpus()), root=tmp_path, given=()).read("user")
    every = MachineGpus(NvmlReader(two_gpus()), root=tmp_path).read("user")

    assert [gpu.name for gpu in some.gpus if not gpu.trouble] == ["GPU-b"]
    assert [bool(gpu.trouble) for gpu in (*none.gpus, *every.gpus)] == [True, True, False, False]
    assert "NOT given to pods: the setting local.gpus" in notes_on(some)[0]


def test_a_gpu_that_is_lost_is_told_and_not_given_out():
    nvml = two_gpus()
    reader = NvmlReader(nvml)
    reader.read()

    nvml.gpus[0].lost = True
    lost = {gpu.name: gpu.trouble for gpu in reader.read().gpus}
    nvml.gpus[0].lost = False
    back = {gpu.name: gpu.trouble for gpu in reader.read().gpus}

    assert lost == {"GPU-a": "it is lost: it does not answer", "GPU-b": ""}
    assert back == {"GPU-a": "", "GPU-b": ""}


@pytest.mark.parametrize(("xid", "trouble"), [(79, "it reported a critical error (Xid 79)"), (31, ""), (13, "")])
def test_a_critical_xid_is_the_gpus_trouble_and_a_programs_fault_is_not(xid: int, trouble: str):
    nvml = two_gpus()
    reader = NvmlReader(nvml)
    reader.read()

    nvml.xids.append(("GPU-b", xid))

    for _ in range(2):  # and it stays so
        assert {gpu.name: gpu.trouble for gpu in reader.read().gpus} == {"GPU-a": "", "GPU-b": trouble}


def test_a_gpu_that_is_split_is_not_given_out():
    nvml = FakeNvml([FakeGpu("GPU-a", mig=True)])

    (gpu,) = NvmlReader(nvml).read().gpus

    assert "MIG" in gpu.trouble


def test_the_use_of_gpus_is_told_by_name():
    nvml = two_gpus()
    nvml.gpus[1].percent, nvml.gpus[1].used_bytes = 87, 5 * 2**30
    reader = NvmlReader(nvml)
    reader.read()

    assert [(one.name, one.percent, one.memory_bytes) for one in reader.use_of(["GPU-b", "GPU-gone"])] == [
        ("GPU-b", 87, 5 * 2**30)
    ]


def nodes(root: Path, *names: str, mode: int = 0o666) -> None:
    (root / "dev").mkdir(exist_ok=True)
    for name in names:
        (root / "dev" / name).touch()
        (root / "dev" / name).chmod(mode)


def trouble(root: Path, mode: str = "root") -> str:
    (gpu,) = MachineGpus(NvmlReader(FakeNvml([FakeGpu("GPU-a", minor=3)])), root=root).read(mode).gpus
    return gpu.trouble


def test_a_gpu_whose_device_files_pods_cannot_open_is_not_given_out(tmp_path: Path):
    assert trouble(tmp_path) == "its device file /dev/nvidia3 is not there"
    nodes(tmp_path, "nvidia3", "nvidiactl")
    assert trouble(tmp_path) == "its device file /dev/nvidia-uvm is not there"
    nodes(tmp_path, "nvidia-uvm")
    assert trouble(tmp_path) == ""

    (tmp_path / "dev/nvidia3").chmod(0o660)

    assert trouble(tmp_path) == "pods cannot open its device file /dev/nvidia3 (mode 0660)"
    assert trouble(tmp_path, "user") == ""  # there pods have this server's own uid


def test_a_look_is_kept_for_a_moment_so_that_many_launches_cost_one(tmp_path: Path):
    nodes(tmp_path, "nvidia0", "nvidiactl", "nvidia-uvm")
    nvml = FakeNvml([FakeGpu("GPU-a")])
    gpus = MachineGpus(NvmlReader(nvml), root=tmp_path)
    gpus.read("root")

    nvml.gpus.append(FakeGpu("GPU-b"))

    assert len(gpus.read("root").gpus) == 1
    gpus.close()
    assert len(gpus.read("root").gpus) == 2


def test_a_pod_gets_its_own_device_file_and_those_that_all_need(tmp_path: Path):
    nodes(tmp_path, "nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
    gpus = {"GPU-a": Gpu("GPU-a", "x", 3), "GPU-b": Gpu("GPU-b", "x", 0)}

    assert device_nodes(gpus, ("GPU-a",), root=tmp_path) == (
        "/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
    )  # fmt: skip
    assert device_nodes(gpus, (), root=tmp_path) == ()


def test_the_drivers_libraries_outside_usr_are_named(tmp_path: Path):
    library = tmp_path / "libcuda.so.1"
    library.touch()
    listed = f"""3 libs found in cache `/etc/ld.so.cache'
\tlibcuda.so.1 (libc6,x86-64) => {library}
\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1
\tlibcudart.so.12 (libc6,x86-64) => {library}
\tlibnvidia-ml.so.1 (libc6,x86-64) => {tmp_path}/gone.so
"""

    assert list(libraries_in(listed)) == [
        str(library), "/usr/lib/x86_64-linux-gnu/libcuda.so.1", f"{tmp_path}/gone.so",
    ]  # fmt: skip
    assert chosen(libraries_in(listed)) == (str(library),)


def test_a_pod_sees_of_the_drivers_proc_what_is_its_own(tmp_path: Path):
    for bus in ("0000:01:00.0", "0000:c1:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        (tmp_path / "gpus" / bus / "information").write_text(f"GPU UUID: {bus}\n")
    (tmp_path / "params").write_text("ResmanDebugLevel: 1\nModifyDeviceFiles: 1\n")
    (tmp_path / "version").write_text("NVRM version: 590\n")

    seen = dict(proc_files(["0000:c1:00.0"], tmp_path) or ())

    assert set(seen) == {
        "/proc/driver/nvidia/params", "/proc/driver/nvidia/version",
        "/proc/driver/nvidia/gpus/0000:c1:00.0/information",
    }  # fmt: skip
    assert b"ModifyDeviceFiles: 0" in seen["/proc/driver/nvidia/params"]
    assert proc_files([], tmp_path) == ()
    assert proc_files([], tmp_path / "no driver") is None
