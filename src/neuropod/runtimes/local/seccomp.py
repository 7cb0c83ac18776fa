"""The filter of system calls that every sandboxed process has (SECURITY 4): a small assembler of classic BPF.

Called by `spawn`; bubblewrap loads the program last, just before it starts the launcher. Denied is what a pod never
needs and what kernels were broken through: new namespaces, mounts, keys, bpf, perf, io_uring, userfaultfd, modules,
clocks, odd socket families, typing into the terminal (TIOCSTI). Everything else stays allowed, ptrace among one's own
processes too. clone3 passes its flags in memory, where no filter can look, so it is ENOSYS and libraries use clone.
"""

import errno
import platform
import struct

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data (little endian: the low half comes first)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_NEW_NAMESPACES = 0x7E020000  # NEWUSER | NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET
_NEW_TIME = 0x80  # in unshare alone: in clone these bits are the exit signal
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK

# Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. None: not on that machine.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "move_pages": (279, 239),
    "iopl": (172, None),
    "ioperm": (173, None),
    "uselib": (134, None),
    "_sysctl": (156, None),
}
_MISSING: dict[str, tuple[int | None, int | None]] = {  # ENOSYS: libraries then take the older way
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_LOOKED_INTO: dict[str, tuple[int, int]] = {
    "clone": (56, 220),
    "unshare": (272, 97),
    "ioctl": (16, 29),
    "socket": (41, 198),
}
_MACHINES = ("x86_64", "aarch64")


class UnknownMachineError(Exception):
    """There is no filter for this kind of processor."""


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, k)


def _fail(number: int) -> bytes:
    return _instruction(_RET, _ERRNO | number)


def program(machine: str | None = None) -> bytes:
    """Return the filter (an array of struct sock_filter) for this machine, or for a named one."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise UnknownMachineError(f"no system call filter for {machine}: known are {', '.join(_MACHINES)}")
    which = _MACHINES.index(machine)
    code = [
        # Another architecture has other numbers: none of its calls works.
        _instruction(_LD_ABS, _ARCH),
        _instruction(_JEQ, _AUDIT_ARCH[machine], 1, 0),
        _fail(errno.ENOSYS),
        _instruction(_LD_ABS, _NR),
    ]
    if machine == "x86_64":
        code += [_instruction(_JGE, _X32_BIT, 0, 1), _fail(errno.ENOSYS)]
    for table, number in ((_DENIED, errno.EPERM), (_MISSING, errno.ENOSYS)):
        for numbers in table.values():
            if (nr := numbers[which]) is not None:
                code += [_instruction(_JEQ, nr, 0, 1), _fail(number)]
    code += _when(_LOOKED_INTO["clone"][which], _denied_bits(_ARG0, _NEW_NAMESPACES))
    code += _when(_LOOKED_INTO["unshare"][which], _denied_bits(_ARG0, _NEW_NAMESPACES | _NEW_TIME))
    code += _when(_LOOKED_INTO["ioctl"][which], _denied_values(_ARG1, (_TIOCSTI, _TIOCLINUX)))
    code += _when(_LOOKED_INTO["socket"][which], _allowed_values(_ARG0, _FAMILIES))
    code.append(_instruction(_RET, _ALLOW))
    return b"".join(code)


def _when(nr: int, body: list[bytes]) -> list[bytes]:
    """Run `body`, which always returns, for that call alone."""
    return [_instruction(_JEQ, nr, 0, len(body)), *body]


def _denied_bits(argument: int, bits: int) -> list[bytes]:
    return [
        _instruction(_LD_ABS, argument),
        _instruction(_JSET, bits, 0, 1),
        _fail(errno.EPERM),
        _instruction(_RET, _ALLOW),
    ]


def _denied_values(argument: int, values: tuple[int, ...]) -> list[bytes]:
    body = [_instruction(_LD_ABS, argument)]
    for value in values:
        body += [_instruction(_JEQ, value, 0, 1), _fail(errno.EPERM)]
    return [*body, _instruction(_RET, _ALLOW)]


def _allowed_values(argument: int, values: tuple[int, ...]) -> list[bytes]:
    body = [_instruction(_LD_ABS, argument)]
    for value in values:
        body += [_instruction(_JEQ, value, 0, 1), _instruction(_RET, _ALLOW)]
    return [*body, _fail(errno.EAFNOSUPPORT)]
