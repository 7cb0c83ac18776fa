"""What a pod gets, read from the command line alone; and the filter, run instruction by instruction."""

import errno
import struct
from pathlib import Path
from typing import Any

import pytest

from neuropod.runtimes.local import launcher, seccomp
from neuropod.runtimes.local.plan import Plan, VolumePlan
from neuropod.runtimes.local.podenv import Places, binds_of, start_of
from neuropod.runtimes.local.sandbox import HostRoot, Sandbox, sandbox_of
from neuropod.runtimes.readiness import is_good_answer


def a_plan(**changes) -> Plan:
    facts = {
        "installation": "inst_1", "pod": "pod_1", "incarnation": 1, "pod_name": "lab", "owner": "usr_1",
        "owner_hash": "abcdefgh", "mode": "root", "uid": 200_001, "gid": 200_001, "data_dir": "/data",
        "command": ("server", "--dir=/workspace/x", "/workspace"), "volume": VolumePlan("vol_1", "workspace", 1 << 30),
        "tools": {"bwrap": ["/usr/bin/bwrap"], "setpriv": ["/usr/bin/setpriv"]},
    }  # fmt: skip
    return Plan(**facts | changes)


def a_sandbox(plan: Plan, **more: Any) -> Sandbox:
    return sandbox_of(
        plan,
        host=HostRoot((("/bin", "usr/bin"),), ("/lib64",)),
        binds=binds_of(plan, Places(Path("/data/disk"), Path("/data/volume"), None)),
        resolv_conf="nameserver 127.0.0.53\n",
        program_files={"launcher.py": b"pass"},
        bpf=b"filter",
        **more,
    )


def options_of(sandbox: Sandbox) -> list[str]:
    number = int(sandbox.argv[sandbox.argv.index("--args") + 1])
    return sandbox.files[number].decode().split("\0")[:-1]


def test_a_plan_survives_the_way_through_json():
    plan = a_plan(devices=("/dev/nvidia0",), ports=(8888,))

    assert Plan.from_json(plan.to_json()) == plan


def test_paths_of_the_host_are_not_in_the_arguments_that_a_pod_can_read():
    sandbox = a_sandbox(a_plan())

    assert not any("/data" in word for word in sandbox.argv)
    assert "/data/volume" in options_of(sandbox)


def test_nothing_of_the_pods_own_is_handed_to_what_runs_before_the_drop():
    plan = a_plan(command=("evil-command",))

    sandbox = a_sandbox(plan)

    assert not any("evil-command" in word for word in (*sandbox.argv, *options_of(sandbox)))
    assert all(b"evil-command" not in content for content in sandbox.files.values())


def test_as_root_privileges_are_dropped_after_the_mounts_and_before_the_launcher():
    sandbox = a_sandbox(a_plan())

    drop = sandbox.argv[sandbox.argv.index("/usr/bin/setpriv") :]
    assert drop[:5] == ("/usr/bin/setpriv", "--reuid", "200001", "--regid", "200001")
    assert {"--clear-groups", "--bounding-set=-all", "--no-new-privs"} <= set(drop)
    assert drop.index("/run/neuropod/launcher.py") > drop.index("--no-new-privs")
    assert options_of(sandbox).count("--cap-add") == 3


def test_as_a_user_there_is_a_user_namespace_and_no_capability():
    options = options_of(a_sandbox(a_plan(mode="user")))

    assert "--unshare-user" in options
    assert "--cap-add" not in options
    assert options[options.index("--cap-drop") + 1] == "ALL"


def test_only_disks_are_writable():
    options = options_of(a_sandbox(a_plan()))

    writable = [options[at + 2] for at, word in enumerate(options) if word in {"--bind", "--dev-bind"}]
    assert writable == ["/home/pod", "/tmp", "/var/tmp", "/workspace"]
    assert options[options.index("--seccomp") - 2 : options.index("--seccomp")] == ["--remount-ro", "/"]


def test_only_assigned_devices_are_inside():
    without, with_one = a_plan(), a_plan(devices=("/dev/nvidia1", "/dev/nvidiactl"), gpus=("GPU-1",))

    assert "--dev-bind" not in options_of(a_sandbox(without))
    options = options_of(a_sandbox(with_one))
    bound = [at for at, word in enumerate(options) if word == "--dev-bind"]
    assert [options[at + 1] for at in bound] == list(with_one.devices)
    assert max(bound) < next(at for at, word in enumerate(options) if options[at : at + 2] == ["--remount-ro", "/dev"])


@pytest.mark.parametrize(
    ("gpus", "mode", "visible", "cuda"),
    [
        ((), "root", "void", ""),
        (("GPU-1", "GPU-2"), "root", "GPU-1,GPU-2", "0,1"),
        (("GPU-2",), "none", "GPU-2", "GPU-2"),  # there it counts all of the machine's
    ],
)
def test_the_owner_cannot_choose_which_gpus_are_visible(gpus: tuple[str, ...], mode: str, visible: str, cuda: str):
    places = Places(Path("/data/disk"), None, None)
    given = {"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "0,1,2,3", "MINE": "1"}

    start = start_of(a_plan(gpus=gpus, mode=mode), places, given)

    assert (start.env["NVIDIA_VISIBLE_DEVICES"], start.env["CUDA_VISIBLE_DEVICES"]) == (visible, cuda)
    assert start.env["MINE"] == "1"


def test_without_isolation_words_that_name_the_volume_name_its_folder():
    start = start_of(a_plan(mode="none"), Places(Path("/data/disk"), Path("/data/volume"), None), {})

    assert start.command == ("server", "--dir=/data/volume/x", "/data/volume")
    assert start.cwd == "/data/volume"


def test_a_pod_sees_of_the_drivers_part_of_proc_what_it_is_given():
    files = (("/proc/driver/nvidia/version", b"590"), ("/proc/driver/nvidia/gpus/0000:01:00.0/information", b"mine"))

    options = options_of(a_sandbox(a_plan(), driver=files))

    at = options.index("/proc/driver/nvidia")
    shut = options.index("--remount-ro", at)
    assert (options[at - 1], options[shut + 1]) == ("--tmpfs", "/proc/driver/nvidia")
    assert [options[n + 2] for n in range(at, shut) if options[n] == "--file"] == [path for path, _ in files]
    assert "/proc/driver/nvidia" not in options_of(a_sandbox(a_plan()))


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (b"HTTP/1.1 200 OK\r\n", True), (b"HTTP/1.0 302 Found", True), (b"HTTP/1.1 404 N", True),
        (b"HTTP/1.1 500 ", False), (b"HTTP/1.1 503", False), (b"HTTP/1.1 20", False), (b"SSH-2.0-OpenSSH", False),
        (b"", False),
    ],
)  # fmt: skip
def test_ready_is_any_http_answer_below_500(answer: bytes, good: bool):
    assert is_good_answer(answer) is good


def test_the_launchers_order_is_read_as_it_was_written(tmp_path: Path):
    order = launcher.encode_order(("run", "a b", ""), {"A": "1=2", "B": ""}, "/workspace", ("", "", ""))
    (tmp_path / "order").write_bytes(order)

    with (tmp_path / "order").open("rb") as file:
        texts = launcher.read_order(file.fileno())

    assert texts == [b"/workspace", b"", b"", b"", b"3", b"run", b"a b", b"", b"A=1=2", b"B="]


# ---- the filter, by a machine for classic BPF as small as it

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW = 0x7FFF0000


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run the filter on one call; 0 is allowed, else the error number."""
    data = struct.pack("<IIQ6Q", number, arch or ARCH[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    program = seccomp.program(machine)
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x45:
                at += if_true if accumulator & k else if_false
            case 0x06:
                return 0 if k == ALLOW else k & 0xFFFF
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


CALLS = {
    "x86_64": {"read": 0, "clone": 56, "unshare": 272, "clone3": 435, "ioctl": 16, "socket": 41, "ptrace": 101,
               "mount": 165, "keyctl": 250, "bpf": 321, "execve": 59},
    "aarch64": {"read": 63, "clone": 220, "unshare": 97, "clone3": 435, "ioctl": 29, "socket": 198, "ptrace": 117,
                "mount": 40, "keyctl": 219, "bpf": 280, "execve": 221},
}  # fmt: skip


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_denies_what_pods_never_need_and_nothing_else(machine: str):
    calls = CALLS[machine]
    thread, process = 0x3D0F00, 0x01200011  # what glibc passes for a thread and for fork

    for allowed in (("read",), ("execve",), ("ptrace",), ("clone", thread), ("clone", process), ("socket", 2),
                    ("socket", 1), ("socket", 16), ("ioctl", 1, 0x5413), ("unshare", 0x400)):  # fmt: skip
        assert verdict(machine, calls[allowed[0]], *allowed[1:]) == 0, allowed
    for denied in (("mount",), ("keyctl",), ("bpf",), ("clone", 0x10000011), ("unshare", 0x10000000),
                   ("unshare", 0x80), ("clone", 0x40000011), ("ioctl", 1, 0x5412)):  # fmt: skip
        assert verdict(machine, calls[denied[0]], *denied[1:]) == errno.EPERM, denied
    assert verdict(machine, calls["clone3"]) == errno.ENOSYS
    assert verdict(machine, calls["socket"], 40) == errno.EAFNOSUPPORT
    # The upper half of an argument does not hide the lower one.
    assert verdict(machine, calls["clone"], 0xFFFFFFFF_10000011) == errno.EPERM


def test_calls_of_another_architecture_do_not_exist():
    assert verdict("x86_64", 0, arch=0x40000003) == errno.ENOSYS
    assert verdict("x86_64", 0x40000000 | 59) == errno.ENOSYS


def test_a_processor_without_a_filter_is_refused():
    with pytest.raises(seccomp.UnknownMachineError):
        seccomp.program("mips")
