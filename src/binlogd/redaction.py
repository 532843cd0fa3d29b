"""Keeping passwords out of sight: in texts, in log lines and in the list of processes.

A password given as ``--source mysql://user:password@host`` stands in the process's argument area, which
every user of the machine can read (``ps``, ``/proc/PID/cmdline``). The kernel keeps the bounds of that area
and shows the memory between them as it is now (proc(5): ``cmdline``; ``stat`` fields 48 ``arg_start`` and
49 ``arg_end``), so a process can overwrite its own, as the mysql client does. CPython decodes its arguments
into copies of its own, so ``sys.argv`` keeps the password. Between exec and the overwrite it is visible,
some 30 ms: a password file or ``BINLOGD_SOURCE__PASSWORD`` (``/proc/PID/environ`` is readable by the owner
only) has no such gap.

This module imports next to nothing: it runs before everything else.
"""

from __future__ import annotations

import os
import re
import sys

MASK = "x"  # what the mysql client writes; one, so that the length does not show

# scheme://user:PASSWORD@ . In an argument all up to the last @ is password, so that one which was not
# percent-encoded is hidden whole; in running text it ends at white space.
_IN_ARGUMENT = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*://[^:@]*:).+@", re.DOTALL)
_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:@]*:)\S+@")

# /proc/self/stat after the command's name, whose first field is number 3 (proc(5)).
_ARG_START, _ARG_END = 48 - 3, 49 - 3


def mask_passwords(text: str) -> str:
    """``text`` with the password of every ``scheme://user:password@`` in it replaced by ``x``."""
    return _IN_TEXT.sub(rf"\1{MASK}@", text)


def hide_password_in_argv() -> bool:
    """Overwrite the URL passwords among this process's own arguments; say whether none is visible any more.

    False where the system does not let a process do that (no Linux /proc): then the password stays visible.
    """
    if not any(_IN_ARGUMENT.search(os.fsencode(argument)) for argument in sys.orig_argv):
        return True
    try:
        with open("/proc/self/stat", "rb") as stat, open("/proc/self/cmdline", "rb") as cmdline:
            # The name stands in parentheses and may hold spaces and parentheses itself.
            fields = stat.read().rpartition(b")")[2].split()
            start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
            shown = cmdline.read()
    except (OSError, ValueError, IndexError):
        return False
    import ctypes  # here, because most commands never need it

    if not 0 < start < end or end - start != len(shown):
        return False
    area = (ctypes.c_char * (end - start)).from_address(start)
    if area.raw != shown:
        return False
    # The arguments move together and NULs fill the end: nothing shows how long the password was.
    masked = b"\0".join(_IN_ARGUMENT.sub(rb"\1" + MASK.encode() + b"@", argument) for argument in shown.split(b"\0"))
    area.raw = masked.ljust(len(shown), b"\0")
    return True
