"""Configuration: a file, the options of the command line, and the environment.

the file · --source · --listen · --data-dir · --http · NAME=VALUE …   each behind its length; empty: not given
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from binlogd.config import Purpose, find_data_dir, load_settings
from binlogd.config.template import render_template
from binlogd.errors import ConfigError
from tests.fuzz import shapes

MESSAGE = 4096  # characters of an error: a person reads it
PURPOSES = tuple(Purpose)
FOLDER = Path(tempfile.mkdtemp(prefix="binlogd-fuzz-"))


def run(data: bytes) -> None:
    """See the package."""
    if not data:
        return
    pieces = list(shapes.split(data[1:]))
    file, *rest = pieces or [b""]
    path = FOLDER / f"{os.getpid()}.toml"
    path.write_bytes(file)
    options = [piece.decode("utf-8", "replace") or None for piece in rest[:4]] + [None] * 4
    environ = {"HOME": "/nowhere"}
    for piece in rest[4:]:
        name, _, value = piece.decode("utf-8", "replace").partition("=")
        environ[name] = value
    for secret in ("password_file", "BINLOGD_CONFIG"):  # the machine's own files are not part of the input
        if secret.encode() in data or secret.upper().encode() in data:
            return
    source, listen, data_dir, http = options[:4]
    try:
        settings = load_settings(
            str(path),
            source=source,
            listen=listen,
            data_dir=data_dir,
            http=http,
            purpose=PURPOSES[data[0] % len(PURPOSES)],
            environ=environ,
        )
        repr(settings)
    except ConfigError as error:
        _sane(error)
    try:
        find_data_dir(data_dir, config=str(path), environ=environ)
    except ConfigError as error:
        _sane(error)


def _sane(error: ConfigError) -> None:
    shown = str(error)
    assert len(shown) <= MESSAGE
    assert "\n" not in shown


def seeds(_captures: dict[str, bytes]) -> Iterator[bytes]:
    """The template, with its options as comments and without, and ways to say the same."""
    template = render_template()
    bare = "\n".join(line.removeprefix("# ") for line in template.splitlines())
    small = """
data_dir = "/d"
server_id = 7
[source]
hosts = ["db1:3306"]
user = "repl"
password = "p"
tls = "required"
heartbeat = "500ms"
[server]
listen = "[::]:3307"
[[server.users]]
name = "a"
password_hash = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"
hosts = ["10.0.0.0/8", "db.example"]
role = "admin"
"""
    url = b"mysql://u:p%40@h:3306"
    yield bytes([0]) + shapes.join([template.encode()])
    yield bytes([0]) + shapes.join([bare.encode().replace(b"password_file", b"")])
    yield bytes([0]) + shapes.join([small.encode()])
    yield bytes([1]) + shapes.join([b"", url, b"127.0.0.1:3307", b"/d", b"[::1]:80"])
    yield bytes([2]) + shapes.join(
        [b"", b"", b"", b"", b"", b"BINLOGD_SOURCE__USER=u", b'BINLOGD_SERVER__USERS=[{"name":"a","password":"b"}]',
         b"BINLOGD_SOURCE__HOSTS=a,b:1", b"BINLOGD_STORE__KEEP=7d", b"BINLOGD_PORT_3307_TCP=tcp://1"]
    )  # fmt: skip
