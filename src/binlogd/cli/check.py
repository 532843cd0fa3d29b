"""``binlogd check``: configuration, data folder, addresses and the source, each line ok, warn or fail with a hint.

It changes nothing and disturbs nobody, so that it can run beside a working binlogd, from cron, by anyone who may read
the configuration: no file or folder is made, an address is bound and not listened on, the store's lock is tried and at
once let go, and the source is asked with SELECT and SHOW alone. What a running binlogd holds itself (the lock, its two
addresses) is ok, and it is asked where the store ends rather than its files.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import math
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.check_report import Line, Status, fail, ok, report, warn, worst
from binlogd.cli.options import json_option, settings_options

if TYPE_CHECKING:
    from binlogd.config import Address, Settings, Store
    from binlogd.receiver.inspection import Ours
    from binlogd.receiver.session import SourceOptions
    from binlogd.store.layout import DataFolder, Identity

LITTLE_SPACE = 2 * 1024**3  # bytes; two binary logs of max_binlog_size's default: hours on a busy source
FEW_INODES = 1000  # two for each stored file: days to weeks
DESCRIPTORS_EACH = 2  # of a connection: its socket and the file it reads
DESCRIPTORS_OWN = 64  # listeners, control sockets, the event loop, files that are looked at
VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs"})
DAY = 86_400.0
MEASURED = 3600.0  # seconds of binary logs from which a day's growth is told
FEW_DAYS = 7.0  # until the disk is full
ER_SECURE_TRANSPORT_REQUIRED = 3159
HTTP_TIMEOUT = 2.0  # seconds for our own page, on this machine, to answer
MAX_STATUS = 64 * 1024 * 1024  # bytes of its answer


@click.command(short_help="Check configuration, data folder and source.")
@settings_options
@json_option
def command(
    config: str | None, source: str | None, listen: str | None, data_dir: str | None, http: str | None, as_json: bool
) -> int:
    """Check the configuration, the data folder, the addresses, and the source's settings and grants.

    Each line is ok, warn or fail, with what to do. Exit code 1 when a line fails. Safe beside a running binlogd.
    """
    from binlogd.config import find_config, load_settings
    from binlogd.errors import ConfigError

    lines: list[Line] = []
    try:
        settings = load_settings(config, source=source, listen=listen, data_dir=data_dir, http=http)
    except ConfigError as bad:
        lines.append(fail("configuration", bad.message, bad.hint))
    else:
        file = find_config(config, os.environ)
        lines.append(ok("configuration", str(file) if file else "complete without a file"))
        lines += _checks(settings)
    return report(lines, as_json=as_json)


def _checks(settings: Settings) -> Iterator[Line]:
    from binlogd.control.sockets import RECEIVER, SENDER, ask_status
    from binlogd.store.layout import DataFolder

    yield _build()
    folder = DataFolder(settings.data_dir)
    receiver = ask_status(folder.path / RECEIVER)
    sender = ask_status(folder.path / SENDER)
    usable = list(_folder(folder.path, settings.store.min_free or 0))
    yield from usable
    identity, ours, lines = _store(settings, folder, receiver)
    if worst(usable) is not Status.FAIL:  # else these would be about nothing, or say it again
        yield from _lock(folder, receiver)
        yield from lines
    yield _descriptors(settings.server.max_connections)
    yield from _users(settings)
    yield _listener(settings.server.listen, sender)
    yield _http(settings.http.listen, identity)
    yield from _sources(settings, folder, ours)


def _build() -> Line:
    from binlogd.binlog import compiled, pure_wanted

    if compiled():
        return ok("build", "compiled")
    # Without --no-cache-dir pip would install the wheel again that it made without a compiler.
    hint = (
        "install a C compiler and Python's headers (gcc, python3-dev), then binlogd once more:"
        " pip install --force-reinstall --no-deps --no-cache-dir binlogd"
    )
    return warn(
        "build",
        "plain Python: it does the same, many times as slowly",
        "unset BINLOGD_PURE" if pure_wanted() else hint,
    )


# ------------------------------------------------------------------------------------------------- the data folder


def _folder(path: Path, min_free: int) -> Iterator[Line]:
    subject = "data_dir"
    try:
        there = path.stat()
    except FileNotFoundError:
        yield _creatable(path)
        return
    except OSError as bad:
        yield fail(subject, f"cannot look at {path}: {bad.strerror}", "name another folder with --data-dir or data_dir")
        return
    if not stat.S_ISDIR(there.st_mode):
        yield fail(subject, f"{path} is no folder", "name another with --data-dir or data_dir")
        return
    unusable = next((place for place in _places(path) if not os.access(place, os.R_OK | os.W_OK | os.X_OK)), None)
    if unusable is not None:
        yield fail(
            subject,
            f"{unusable} cannot be read and written by user {os.geteuid()}",
            f"chown -R {os.geteuid()} {path}; and see that its file system is not mounted read-only",
        )
        return
    yield ok(subject, f"{path} is there and writable")
    loose = stat.S_IMODE(there.st_mode) & 0o077
    if loose:
        text = f"others may enter {path} (mode {stat.S_IMODE(there.st_mode):04o}); it holds all the source's data"
        yield warn("data_dir.mode", text, f"chmod 700 {path}")
    else:
        yield ok("data_dir.mode", "is its owner's alone")
    yield _space(path, min_free)
    yield from _file_system(path)


def _places(path: Path) -> Iterator[Path]:
    """The folders that must be writable, those that are there."""
    yield path
    binlogs = path / "binlogs"
    if binlogs.is_dir():
        yield binlogs
        with suppress(OSError):
            yield from sorted(entry for entry in binlogs.iterdir() if entry.is_dir())


def _creatable(path: Path) -> Line:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok("data_dir", f"{path} is not there yet and will be made")
    return fail(
        "data_dir",
        f"{path} is not there and cannot be made in {above}",
        f"mkdir -p -m 700 {path}; chown {os.geteuid()} {path}",
    )


def _space(path: Path, min_free: int) -> Line:
    from binlogd.units import human_size

    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    if free < min_free:
        text = f"{human_size(free)} are free, less than store.min_free, {human_size(min_free)}: nothing is received"
        return warn("data_dir.space", text, "free some space, move data_dir to a larger disk, or lower store.min_free")
    if free < LITTLE_SPACE:
        text = f"only {human_size(free)} are free: when the disk is full, nothing more is received"
        return warn("data_dir.space", text, "free some space, or move data_dir to a larger disk")
    return ok("data_dir.space", f"{human_size(free)} are free")


def _file_system(path: Path) -> Iterator[Line]:
    """What the folder lies on: whether fdatasync means what it says there, and room for names."""
    from binlogd.units import human_size

    kind = file_system_type(path, Path("/proc/self/mountinfo"))
    if kind in VOLATILE:
        text = f"{path} lies in memory ({kind}): a restart of the machine loses everything that was acknowledged"
        yield fail("data_dir.file_system", text, "move data_dir to a disk")
    elif kind in REMOTE:
        text = f"{path} lies on {kind}: fdatasync is the server's word there, and its locks may fail"
        yield warn(
            "data_dir.file_system", text, "move data_dir to a local disk, or see that the server exports it sync"
        )
    elif kind is not None:
        yield ok("data_dir.file_system", kind)
    space = os.statvfs(path)
    if space.f_files and space.f_favail < FEW_INODES:  # some file systems have no limit, and say 0
        text = f"only {space.f_favail} more files can be made, with {human_size(space.f_bavail * space.f_frsize)} free"
        yield warn("data_dir.inodes", text, "remove small files from that disk, or move data_dir to another")


def file_system_type(path: Path, mounts: Path) -> str | None:
    """The type of the file system of ``path`` by /proc/self/mountinfo; None when that cannot be told."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == wanted:
            return rest.split()[0]
    return None


def _descriptors(connections: int) -> Line:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # which every process of ours takes
    needed = connections * DESCRIPTORS_EACH + DESCRIPTORS_OWN
    if hard == resource.RLIM_INFINITY or hard >= needed:
        most = "unlimited" if hard == resource.RLIM_INFINITY else hard
        return ok("open_files", f"{most} may be open at a time in what this shell starts")
    text = (
        f"only {hard} may be open at a time in what this shell starts,"
        f" and server.max_connections = {connections} can need {needed}"
    )
    return warn(
        "open_files", text, f"LimitNOFILE={needed} in the service, or ulimit -Hn; or lower server.max_connections"
    )


def _users(settings: Settings) -> Iterator[Line]:
    """Whom the listener lets in too easily."""
    address = settings.server.listen
    if _is_loopback(address.host):
        return
    for user in settings.server.users:
        subject = f"server.users.{user.name}"
        if user.password is not None and not user.password.get_secret_value():
            yield warn(subject, "has an empty password, and the listener is not on loopback", "give it a password")
        elif user.role.value == "admin" and user.hosts is None:
            text = "is an admin and may come from any address: whoever has the password changes the source"
            yield warn(subject, text, 'give it hosts, such as ["localhost", "10.0.0.0/8"], or the role replica')


def _lock(folder: DataFolder, receiver: dict[str, Any] | None) -> Iterator[Line]:
    subject = "store.lock"
    if receiver is not None:
        yield ok(subject, f"in use by the running receiver, pid {receiver['pid']}")
        return
    try:
        descriptor = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # no store yet; or unreadable, which its folder's line has said
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield ok(subject, "free")
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
        yield warn(
            subject,
            f"held by process {owner}, which does not answer",
            f"it may be starting: try again; else look what it does (ps {owner}) and stop it",
        )
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------------- the store


def _store(
    settings: Settings, folder: DataFolder, receiver: dict[str, Any] | None
) -> tuple[Identity | None, Ours, list[Line]]:
    """Who we are, what the source will have to fit, and the lines."""
    from binlogd.binlog.gtid import GtidSet
    from binlogd.control.status import store_status
    from binlogd.errors import StoreError
    from binlogd.receiver.inspection import Ours
    from binlogd.receiver.plan import StoreFacts
    from binlogd.store.disk import Disk
    from binlogd.units import human_size

    lines: list[Line] = []
    identity: Identity | None = None
    held: StoreFacts | None = None
    executed = GtidSet()
    room: int | None = None
    try:
        if folder.auto_cnf.exists():
            identity = folder.identity(Disk())  # which writes nothing when there is one
        timelines = folder.timelines()
        status = store_status(folder, receiver)
        executed = GtidSet.parse(status["gtid_executed"])
        for timeline in timelines:
            if timeline.number == status["timeline"]:
                end = status["published"]
                uuids = tuple(each.source_uuid for each in timelines if each.binlogs())
                held = StoreFacts(timeline.source_uuid, end["file"], end["position"], timelines=uuids)
        if status["error"] is not None:
            lines.append(fail("store", status["error"]))
        elif not status["files"]:
            lines.append(ok("store", "empty"))
        else:
            end, size = status["published"], human_size(status["bytes"])
            number = f"{status['files']} file{'s' * (status['files'] > 1)}"
            lines.append(ok("store", f"{number}, {size}, up to {end['file']}:{end['position']}"))
            lines += _growth(settings.store, status, time.time())
        room, absurd = _retention(settings.store, status["bytes"], *_disk(folder.path))
        lines += absurd
        for file in status["damaged"]:
            name = f"{file['timeline']:04}:{file['file']}" if len(timelines) > 1 else file["file"]
            lines.append(fail(f"store.{name}", file["message"], file["hint"]))
    except (StoreError, OSError) as bad:
        message, hint = (bad.message, bad.hint) if isinstance(bad, StoreError) else (str(bad), "")
        lines.append(fail("store", message, hint))
    attached = receiver is not None and receiver["source"]["state"] == "streaming" and receiver["source"]["semi_sync"]
    ours = Ours(
        server_id=settings.server_id or (identity.server_id if identity else None),
        server_uuid=settings.server_uuid or (identity.server_uuid if identity else None),
        semi_sync=settings.source.semi_sync,
        start=settings.source.start,
        store=held,
        executed=executed,
        attached=attached,
        streaming=receiver is not None and receiver["source"]["state"] == "streaming",
        room=room,
    )
    return identity, ours, lines


def _disk(path: Path) -> tuple[int, int]:
    """Free bytes, and the size, of the disk that the folder is on, or will be made on."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    space = os.statvfs(there)
    return space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize


def _retention(limits: Store, held: int, free: int, total: int) -> tuple[int | None, list[Line]]:
    """What is left to all files together, of which there are ``held`` bytes: None, no limit; and what is absurd."""
    from binlogd.units import human_size

    subject, rooms, lines = "store.retention", [], []
    if limits.min_free is not None:
        asked = f"store.min_free is {human_size(limits.min_free)}"
        rooms.append(free + held - limits.min_free)
        if limits.min_free >= total:
            text = f"{asked}, and the disk has {human_size(total)}: nothing is ever received"
            return None, [fail(subject, text, "lower store.min_free, or move data_dir to a larger disk")]
        if rooms[0] <= 0:
            text = f"{asked}, and {human_size(free + held)} would be free with every file gone: nothing can be kept"
            return None, [warn(subject, text, "lower store.min_free, or remove what else fills that disk")]
    if limits.max_size is not None:
        rooms.append(limits.max_size)
        if limits.max_size > total:
            text = f"store.max_size is {human_size(limits.max_size)}, and the disk has {human_size(total)}"
            hint = "lower store.max_size, or leave it out and set store.min_free, such as 5GiB"
            lines.append(warn(subject, f"{text}: no file ever goes for it", hint))
    return min(rooms, default=None), lines


def _growth(limits: Store, status: dict[str, Any], now: float) -> Iterator[Line]:
    """Whether the disk has room for what store.keep asks for, at the rate at which the store has grown until now."""
    from binlogd.units import format_duration, human_size

    covered = now - (status["oldest_time"] or now)
    if covered < MEASURED or status["free_bytes"] is None:
        return
    a_day = status["bytes"] / covered * DAY
    room = max(status["free_bytes"] - (limits.min_free or 0), 0)
    grows = f"{human_size(round(a_day))} a day"
    if limits.max_size is not None and limits.max_size - status["bytes"] <= room:
        yield ok("store.growth", f"{grows}, up to store.max_size, for which there is room")
        return
    keep = limits.keep
    if keep is not None and a_day * keep / DAY - status["bytes"] <= room:
        yield ok("store.growth", f"{grows}, and there is room for the {format_duration(keep)} of store.keep")
        return
    lasts = room / a_day if a_day else math.inf
    text = f"{grows}: the {human_size(room)} that may be filled last {lasts:.1f} days"
    if keep is not None:
        yield warn(
            "store.growth",
            f"{text}, and store.keep = {format_duration(keep)} needs {human_size(round(a_day * keep / DAY))} in all",
            f"lower store.keep to {max(int((status['bytes'] + room) / a_day), 1)}d, or move data_dir to a larger disk",
        )
    elif lasts < FEW_DAYS:
        yield warn("store.growth", text, "set store.keep, such as 7d, or move data_dir to a larger disk")
    else:
        yield ok("store.growth", text)


# --------------------------------------------------------------------------------------------------- the addresses


def _listener(address: Address, sender: dict[str, Any] | None) -> Line:
    subject = "server.listen"
    if sender is not None and sender["listen"] == str(address):
        return ok(subject, f"{address} is in use by the running sender, pid {sender['pid']}")
    problem = _bind(address)
    if problem is None:
        return ok(subject, f"{address} is free")
    return fail(
        subject,
        f"cannot listen on {address}: {problem}",
        "stop that process, or choose another address with --listen or server.listen",
    )


def _http(address: Address, identity: Identity | None) -> Line:
    subject = "http.listen"
    problem = _bind(address)
    if problem is None:
        return ok(subject, f"{address} is free")
    if identity is not None and _asked_over_http(address) == identity.server_uuid:
        return ok(subject, f"{address} is in use by the running binlogd")
    return fail(
        subject,
        f"cannot listen on {address}: {problem}",
        "stop that process, or choose another address with --http or http.listen",
    )


def _bind(address: Address) -> str | None:
    """Why the address cannot be had, None when it can.

    Without listen(), and with SO_REUSEADDR, a bound socket hinders no other one: a binlogd that starts meanwhile
    does not notice.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as bad:
        return "another process has it" if bad.errno == errno.EADDRINUSE else bad.strerror
    return None


def _asked_over_http(address: Address) -> str | None:
    """The server_uuid that the page at ``address`` gives, None when nothing of ours answers there."""
    import http.client
    import json

    # A listener on every address is asked on the loopback one.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, address.port, timeout=HTTP_TIMEOUT)
    try:
        connection.request("GET", "/api/status")
        answer = json.loads(connection.getresponse().read(MAX_STATUS))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    uuid = answer.get("server_uuid") if isinstance(answer, dict) else None
    return uuid if isinstance(uuid, str) else None


# ------------------------------------------------------------------------------------------------------ the source


def _sources(settings: Settings, folder: DataFolder, ours: Ours) -> Iterator[Line]:
    """The lines of each candidate, and of what chooses among them."""
    from binlogd.cli.receiver_process import configured_orders, fingerprint
    from binlogd.errors import StoreError
    from binlogd.receiver import override
    from binlogd.receiver.office import combined

    configured = configured_orders(settings)
    orders = configured
    try:
        held = override.load(folder.path)
    except StoreError as bad:
        yield fail("source.override", bad.message, bad.hint)
    else:
        if held is not None and held.fingerprint == fingerprint(settings):
            orders = combined(configured, held)
            what = "another source was ordered" if held.said else "nothing was ordered but STOP REPLICA"
            hint = "STOP REPLICA, RESET REPLICA ALL and START REPLICA go back to the configuration"
            receiving = "" if orders.running else "; receiving is stopped"
            yield warn("source.override", f"{what} by statement, which counts over the configuration{receiving}", hint)
    if len(orders.sources) == 1:
        yield from _source(orders.sources[0], ours)
        return
    chosen = {"first": "the first that answers", "writable": "the one that is not read_only"}[orders.follow.value]
    yield ok("source.follow", f"{orders.follow.value}: of {len(orders.sources)} hosts {chosen} is followed")
    for options in orders.sources:
        for line in _source(options, ours):
            subject = line.subject.removeprefix("source").removeprefix(".")
            yield replace(line, subject=f"source.{options.host}:{options.port}" + (f".{subject}" if subject else ""))


def _source(options: SourceOptions, ours: Ours) -> Iterator[Line]:
    from binlogd.errors import BinlogdError, ConfigError, ServerError, SourceRefused, Unreachable
    from binlogd.receiver.inquiry import ask, grant
    from binlogd.receiver.inspection import inspect
    from binlogd.receiver.link import Wake
    from binlogd.receiver.session import Session
    from binlogd.store.layout import Identity

    peer = f"{options.host}:{options.port}"
    # Identity matters to a dump only, and there will be none.
    session = Session(options, Identity(ours.server_uuid or "", ours.server_id or 0), Wake())
    try:
        try:
            session.connect()
        except Unreachable as bad:
            yield fail("source.connection", bad.message, bad.hint)
            return
        except ServerError as refused:
            if refused.code == ER_SECURE_TRANSPORT_REQUIRED:
                yield ok("source.connection", f"{peer} answers")
                yield fail(
                    "source.tls",
                    "the source takes no connection without TLS (require_secure_transport = ON), and source.tls ="
                    f" {options.tls.value}",
                    'set source.tls = "required", or "verify-ca" with source.tls_ca',
                )
                return
            account = f"{options.user}@%"
            hint = f"check source.user and its password; or at the source: CREATE USER '{options.user}'@'%' IDENTIFIED"
            hint += f" BY '…'; {grant(account)}"
            yield ok("source.connection", f"{peer} answers")
            yield fail("source.login", f"{refused.message} (error {refused.code})", refused.hint or hint)
            return
        except SourceRefused as bad:
            yield ok("source.connection", f"{peer} answers")
            yield fail("source.compression", bad.message, bad.hint)
            return
        except ConfigError as bad:
            yield fail("source.tls", bad.message, bad.hint)
            return
        yield ok("source.connection", f"{peer} answers")
        yield ok("source.login", f"user {options.user} is let in")
        for finding in inspect(ask(session, local=_is_loopback(options.host)), ours):
            yield Line(Status(finding.level.value), finding.subject, finding.message, finding.hint)
    except BinlogdError as bad:
        yield fail("source", bad.message, bad.hint)
    finally:
        session.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
