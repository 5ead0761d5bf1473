"""Runs a program as somebody who is not root: `unprivileged.py namespace|account PROGRAM ARGUMENT…`, then becomes it.

Postgres refuses to run as root. `namespace` enters a user namespace of its own in which this very account has another
number: files, folders and signals stay as they are. Where a container forbids that, `account` becomes 65534 and keeps
only the right to pass through folders, because the program and its data may lie under a home closed to others.

Started by its path with `python -I -S`, so it imports nothing but the standard library.
"""

import ctypes
import os
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
INSIDE_ID = 1000
NOBODY_ID = 65534
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def enter_namespace() -> None:
    """Raises `OSError` where the kernel or the container does not allow it."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{INSIDE_ID} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{INSIDE_ID} {group} 1", encoding="ascii")


def become_nobody() -> None:
    """Becomes account 65534. The one capability it keeps is what opens folders closed to others, where we have it."""
    _call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY_ID, NOBODY_ID, NOBODY_ID)
    os.setresuid(NOBODY_ID, NOBODY_ID, NOBODY_ID)
    bit = 1 << CAP_DAC_OVERRIDE
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    try:
        _call("capset", header, struct.pack("=6I", bit, bit, bit, 0, 0, 0))
        _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
    except OSError:
        _call("capset", header, struct.pack("=6I", 0, 0, 0, 0, 0, 0))


def _call(name: str, *arguments: int | bytes) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main(arguments: list[str]) -> None:
    way, program, *rest = arguments
    if way == "namespace":
        enter_namespace()
    else:
        become_nobody()
    os.execv(program, [program, *rest])  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main(sys.argv[1:])
