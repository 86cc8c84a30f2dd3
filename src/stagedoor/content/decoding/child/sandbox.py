"""The walls: what a child gives up before it sees the first byte of a stranger's."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import resource
import struct
import sys
from collections.abc import Mapping
from typing import Any

PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38

# linux/landlock.h. A right belongs to the ruleset from the ABI that knows it.
_LANDLOCK_FS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_LANDLOCK_NET = {4: 0b11}
_LANDLOCK_SCOPE = {6: 0b11}

# What a decoder never needs and Landlock does not govern: processes and threads, signals, sockets (UDP!), other
# processes' memory and limits, attributes and locks of files that are open, memory and queues that would outlive it,
# writing out the disks of the whole machine, and the kernel's larger surfaces. A list of what is denied and not of
# what is allowed: what libc calls for malloc or a clock differs from version to version.
_DENIED: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            41, 42, 43, 49, 50, 53, 288,  # socket connect accept bind listen socketpair accept4
            56, 57, 58, 435, 59, 322,  # clone fork vfork clone3 execve execveat
            62, 129, 200, 234, 297, 424, 434, 438,  # kill … tgkill, pidfd_*
            101, 310, 311, 312,  # ptrace process_vm_readv process_vm_writev kcmp
            160, 302, 141, 142, 144, 203, 251, 256, 279, 314,  # limits, priorities, affinity, pages of others
            90, 91, 92, 93, 94, 132, 235, 260, 261, 268, 280, 452,  # chmod, chown, times
            188, 189, 190, 197, 198, 199,  # extended attributes
            73,  # flock
            29, 30, 31, 67, 64, 65, 66, 220, 68, 69, 70, 71,  # shm*, sem*, msg*
            240, 241, 242, 243, 244, 245,  # mq_*
            162, 306, 74, 75, 277,  # sync, syncfs, fsync, fdatasync, sync_file_range
            253, 254, 294, 300,  # inotify, fanotify
            155, 161, 165, 166, 272, 308, 303, 304,  # mounts, namespaces, file handles
            103, 135, 154, 167, 168, 169, 175, 176, 206, 246, 313,  # log, personality, swap, reboot, modules, AIO
            248, 249, 250, 298, 319, 321, 323, 425, 426, 427,  # keys, perf, memfd, bpf, userfaultfd, io_uring
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            198, 199, 200, 201, 202, 203, 242,
            220, 221, 281, 435,
            129, 130, 131, 138, 240, 424, 434, 438,
            117, 270, 271, 272,
            164, 261, 118, 119, 122, 140, 30, 238, 239, 274,
            52, 53, 54, 55, 88, 452,
            5, 6, 7, 14, 15, 16,
            32,
            194, 195, 196, 197, 190, 191, 192, 193, 186, 187, 188, 189,
            180, 181, 182, 183, 184, 185,
            81, 267, 82, 83, 84,
            26, 27, 262,
            39, 40, 41, 51, 97, 268, 264, 265,
            0, 92, 104, 105, 106, 116, 142, 224, 225, 273,
            217, 218, 219, 241, 279, 280, 282, 425, 426, 427,
        ),
    ),
}  # fmt: skip

# Calls of which some forms are needed, with the number of the argument that tells them and what it may be. What is
# open is open for the parent, too: an owner would have the kernel send the parent signals, a lease would keep it
# waiting for its own file, attributes would stay. Without prctl the signal of the parent's end cannot be given up.
_FORMS: dict[str, tuple[tuple[int, int, tuple[int, ...]], ...]] = {
    machine: (
        (fcntl, 1, (0, 1, 2, 3, 1030)),  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC
        (ioctl, 1, (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS FIONREAD FIONBIO FIONCLEX FIOCLEX
        (prctl, 0, (15, 16)),  # PR_SET_NAME PR_GET_NAME
    )
    for machine, fcntl, ioctl, prctl in (("x86_64", 72, 16, 157), ("aarch64", 25, 29, 167))
}


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int) -> bool:
    """prctl(2); whether it was done."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return bool(_libc().prctl(option, *(ctypes.c_ulong(value) for value in padded)) == 0)


def _landlock() -> int:
    """Allow nothing to be opened, connected or signalled; what is open already stays so.

    Returns:
        The kernel's Landlock ABI, 0 when it has none.
    """
    call = _libc().syscall
    call.restype = ctypes.c_long
    create, restrict = 444, 446  # the same on all architectures
    abi = call(ctypes.c_long(create), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return 0
    words = [
        sum(bits for since, bits in table.items() if since <= abi)
        for table in (_LANDLOCK_FS, _LANDLOCK_NET, _LANDLOCK_SCOPE)
    ]
    known = 3 if abi >= 6 else 2 if abi >= 4 else 1
    attributes = struct.pack(f"={known}Q", *words[:known])
    ruleset = call(ctypes.c_long(create), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return 0
    done = call(ctypes.c_long(restrict), ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return int(abi) if done else 0


def _seccomp() -> bool:
    """Refuse what `_DENIED` and `_FORMS` do not allow with ``EPERM``, and kill on calls of another architecture."""
    machine = platform.machine()
    if machine not in _DENIED or sys.maxsize < 2**32:
        return False
    architecture, denied = _DENIED[machine]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050000 | 1, 0x7FFF0000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    # The x32 calls of x86-64 have numbers of their own; other architectures have none so high.
    program += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, refuse)]
    for number in denied:
        program += [(equal, 0, 1, number), (answer, 0, 0, refuse)]
    for number, argument, words in _FORMS[machine]:
        # Of these arguments the kernel looks at the lower half, which comes first in memory.
        program += [(equal, 0, len(words) + 3, number), (load, 0, 0, 16 + 8 * argument)]
        program += [(equal, len(words) - index, 0, word) for index, word in enumerate(words)]
        program += [(answer, 0, 0, refuse), (answer, 0, 0, allow)]
    program.append((answer, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    return prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(header))


def _drop_capabilities() -> bool:
    """Give up what root may do; without root there is nothing to give up."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    return bool(_libc().capset(header, bytes(24)) == 0)


def confine(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Lock this process in, for good.

    Returns:
        What is in force; `stagedoor.content.decoding.Sandbox` explains the keys.
    """
    limits = {
        resource.RLIMIT_AS: configuration["memory"],
        resource.RLIMIT_CPU: int(configuration["cpu_seconds"] * configuration["requests"]) + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 16,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    undumpable = prctl(_PR_SET_DUMPABLE, 0)
    capabilities = _drop_capabilities()
    no_new_privileges = prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return {
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
        "undumpable": undumpable,
        "no_capabilities": capabilities,
        "no_new_privileges": no_new_privileges,
        "landlock": _landlock(),
        "seccomp": _seccomp(),
    }
