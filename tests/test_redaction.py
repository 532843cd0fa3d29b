"""A password on the command line disappears from /proc, and from texts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from binlogd.redaction import mask_passwords

SHOW = (
    "import sys; from binlogd.redaction import hide_password_in_argv; hidden = hide_password_in_argv();"
    "print(repr((hidden, open('/proc/self/cmdline', 'rb').read(), sys.argv)))"
)


def cmdline_after_hiding(*arguments: str) -> tuple[bool, bytes, list[str]]:
    result = subprocess.run([sys.executable, "-c", SHOW, *arguments], capture_output=True, text=True, check=True)
    hidden, shown, argv = eval(result.stdout)
    assert isinstance(hidden, bool) and isinstance(shown, bytes) and isinstance(argv, list)
    return hidden, shown, argv


@pytest.mark.parametrize(
    ("argument", "masked"),
    [
        ("mysql://repl:S3CRET@db1:3306", b"mysql://repl:x@db1:3306"),
        ("--source=mysql://repl:S3CRET@db1:3306", b"--source=mysql://repl:x@db1:3306"),
        ("mysql://repl:S3@:/CR ET\n@db1", b"mysql://repl:x@db1"),
        ("mysql://répl:S3CRETé@db1", "mysql://répl:x@db1".encode()),
    ],
)
def test_argv_shows_no_password(argument: str, masked: bytes) -> None:
    hidden, shown, argv = cmdline_after_hiding("--source", argument, "--listen", "127.0.0.1:3307")
    assert hidden
    arguments = shown.rstrip(b"\0").split(b"\0")
    assert arguments[-4:] == [b"--source", masked, b"--listen", b"127.0.0.1:3307"]
    assert b"S3" not in shown and b"CR" not in shown
    assert argument in argv, "the program itself still needs it"


@pytest.mark.parametrize("argument", ["mysql://repl@db1:3306", "mysql://repl:@db1", "mysql://db1:3306", "plain"])
def test_argv_without_password_stays(argument: str) -> None:
    hidden, shown, _ = cmdline_after_hiding(argument)
    assert hidden
    assert shown.endswith(b"\0" + argument.encode() + b"\0")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no URL: a@b", "no URL: a@b"),
        ("to mysql://u:p%40w@h:1 and mysql://v:q@i", "to mysql://u:x@h:1 and mysql://v:x@i"),
        ("s3://key:secret@bucket", "s3://key:x@bucket"),
        ("mysql://u@h:3306, mail a@b", "mysql://u@h:3306, mail a@b"),
        ("(mysql://u:a@b@h)", "(mysql://u:x@h)"),
    ],
)
def test_masks_text(text: str, masked: str) -> None:
    assert mask_passwords(text) == masked
