"""What each option may be, who may log in from where, and that no text of settings holds a secret."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from binlogd.config import Address, Follow, Role, Settings, TlsMode, User
from binlogd.config.model import walk

SECRET = "S3CRET"
NATIVE = "*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9"
SHA2 = "$A$005$" + "\x01\n7]" * 5 + "aB./9" * 8 + "xyz"


def source(**values: Any) -> Settings:
    return Settings.model_validate({"source": {"hosts": ["db1"], "user": "repl", "password": SECRET} | values})


def user(**values: Any) -> User:
    return User.model_validate({"name": "repl", "password": SECRET} | values)


def complaint(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    return str(detail.get("ctx", {}).get("text", detail["msg"]))


def test_defaults_are_the_documented_ones() -> None:
    settings = Settings.model_validate({})
    assert settings.data_dir == Path("binlogd-data")
    assert settings.server_id is None and settings.server_uuid is None
    assert settings.source.hosts == ()
    assert settings.source.follow is Follow.WRITABLE
    assert settings.source.semi_sync is True
    assert settings.source.start == "oldest"
    assert (settings.source.heartbeat, settings.source.connect_timeout, settings.source.read_timeout) == (
        1,
        10,
        30,
    )
    assert settings.source.tls is TlsMode.PREFERRED
    assert settings.source.compression == "none"
    assert settings.source.on_divergence == "stop"
    assert settings.store.durability == "fsync"
    assert settings.store.keep is settings.store.max_size is settings.store.min_free is None
    assert settings.server.listen == ("127.0.0.1", 3307)
    assert settings.server.max_connections == 256
    assert settings.server.require_tls is False
    assert settings.server.users == ()
    assert settings.http.listen == ("127.0.0.1", 8307)
    assert settings.archive.url is None


def test_the_sources_account_owns_the_listener_without_users() -> None:
    (owner,) = source().server.users
    assert (owner.name, owner.role, owner.hosts) == ("repl", Role.ADMIN, None)
    assert owner.password == SecretStr(SECRET)


def test_users_replace_the_owner() -> None:
    settings = Settings.model_validate(
        {
            "source": {"hosts": ["db1"], "user": "repl", "password": "x"},
            "server": {"users": [{"name": "other", "password": ""}]},
        }
    )
    assert [(user.name, user.role) for user in settings.server.users] == [("other", Role.REPLICA)]


def test_hosts_are_split() -> None:
    assert source(hosts=["db1", "[::1]:3307"]).source.hosts == (Address("db1", 3306), Address("::1", 3307))


def test_frozen() -> None:
    settings = source()
    with pytest.raises(ValidationError):
        settings.source.user = "other"


def test_no_secret_in_any_text() -> None:
    settings = Settings.model_validate(
        {
            "source": {"hosts": ["db1"], "user": "repl", "password": SECRET},
            "server": {"users": [{"name": "a", "password": SECRET}, {"name": "b", "password_hash": NATIVE}]},
        }
    )
    texts = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    texts += [
        repr(settings.source),
        str(settings.server.users),
        repr(settings.server.model_dump(mode="json")),
    ]
    for text in texts:
        assert SECRET not in text
        assert NATIVE[1:9] not in text
    assert settings.source.password.get_secret_value() == SECRET


def test_no_secret_in_a_refusal() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"source": {"password": SECRET + "\0", "tls": "x"}, "server": {"users": [SECRET]}})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_settings_pass_between_processes() -> None:
    settings = source(tls="required")
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.source.has_password


@pytest.mark.parametrize(
    "values",
    [
        {"tls": "on"},
        {"follow": "last"},
        {"semi_sync": "perhaps"},
        {"start": "mysql-bin"},
        {"start": "../x.000001"},
        {"start": "newest"},
        {"heartbeat": 1},
        {"heartbeat": "0s"},
        {"heartbeat": "5000000s"},
        {"connect_timeout": "0s"},
        {"read_timeout": "1s", "heartbeat": "1s"},
        {"hosts": "db1"},
        {"hosts": ["db1", "db1:3306"]},
        {"hosts": [3306]},
        {"user": ""},
        {"user": "a\0b"},
        {"user": 5},
        {"password": 5},
        {"password": "a\0b"},
        {"tls_cert": "/c.pem"},
        {"tls_key": "/c.pem"},
        {"tls_ca": "~/ca.pem"},
        {"tls_ca": ""},
        {"report_host": "h" * 256},
        {"compression": "lz4"},
        {"on_divergence": "go-on"},
        {"password_file": "/p"},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_source_refuses(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        source(**values)
    assert caught.value.errors()[0]["loc"][0] == "source"


@pytest.mark.parametrize(
    "values",
    [
        {"server_id": 0},
        {"server_id": 2**32},
        {"server_id": True},
        {"server_id": 1.5},
        {"server_uuid": "x"},
        {"server_uuid": "00000000-0000-0000-0000-000000000000"},
        {"server_uuid": "3e11fa4771ca11e19e33c80aa9429562"},
        {"data_dir": ""},
        {"data_dir": "~/data"},
        {"data_dir": 5},
        {"server": {"max_connections": 0}},
        {"server": {"listen": "3307"}},
        {"server": {"tls_key": "/k.pem"}},
        {"server": {"users": [{"name": "a", "password": ""}, {"name": "a", "password": "b"}]}},
        {"store": {"durability": "none"}},
        {"store": {"keep": "0s"}},
        {"store": {"max_size": "0"}},
        {"store": {"max_size": True}},
        {"store": {"min_free": "5G"}},
        {"archive": {"url": "http://x"}},
        {"http": {"listen": "127.0.0.1"}},
    ],
    ids=str,
)
def test_settings_refuse(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


def test_accepts_what_it_documents() -> None:
    settings = Settings.model_validate(
        {
            "server_id": 2**32 - 1,
            "server_uuid": "3E11FA47-71CA-11E1-9E33-C80AA9429562",
            "source": {"start": "mysql-bin.000008", "heartbeat": "500ms", "tls_cert": "/c", "tls_key": "/k"},
            "store": {"keep": "7d", "max_size": "500GiB", "min_free": 1024},
            "server": {"listen": "0.0.0.0:0"},
            "archive": {"url": "file:///a"},
        }
    )
    assert settings.server_uuid == "3e11fa47-71ca-11e1-9e33-c80aa9429562"
    assert settings.source.heartbeat == 0.5
    assert (settings.store.keep, settings.store.max_size, settings.store.min_free) == (
        604_800,
        500 << 30,
        1024,
    )
    assert settings.server.listen.port == 0


@pytest.mark.parametrize("stored", [NATIVE, SHA2])
def test_password_hashes(stored: str) -> None:
    assert user(password=None, password_hash=stored).password_hash == SecretStr(stored)
    in_hex = "0x" + stored.encode().hex().upper()
    assert user(password=None, password_hash=in_hex).password_hash == SecretStr(stored)


@pytest.mark.parametrize("stored", ["", "S3CRET", NATIVE[:-1], SHA2[:-1], SHA2 + "x", "0x41", "0xzz", "$5$abc$def"])
def test_no_password_hashes(stored: str) -> None:
    with pytest.raises(ValidationError, match=r"authentication_string|hexadecimal"):
        user(password=None, password_hash=stored)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "is missing"),
        ({"password": "a", "password_hash": NATIVE}, "beside password"),
        ({"password": "", "password_file": "/p"}, "beside password"),
        ({"password_file": "/p", "password_hash": NATIVE}, "beside password_file"),
    ],
    ids=str,
)
def test_exactly_one_password(values: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        User.model_validate({"name": "repl"} | values)
    assert why in complaint(caught.value)


def test_an_empty_password_must_be_written() -> None:
    assert user(password="").password == SecretStr("")


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"pw", "pw"), (b"pw\n", "pw"), (b"pw\r\n", "pw"), (b" pw \n", " pw "), ("pä".encode(), "pä")],
)
def test_password_file(tmp_path: Path, content: bytes, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    for section in (
        User.model_validate({"name": "a", "password_file": str(file)}),
        Settings.model_validate({"source": {"password_file": str(file)}}).source,
    ):
        assert section.password == SecretStr(password)
        assert section.password_file == file


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb\n", "more than one line"),
        (b"\xff", "not UTF-8"),
        (b"x" * 4097, "more than 4096 bytes"),
    ],
)
def test_no_password_file(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ValidationError) as caught:
        User.model_validate({"name": "a", "password_file": str(file)})
    assert why in complaint(caught.value)


@pytest.mark.parametrize(
    ("path", "why"), [("missing", "No such file"), (".", "directory"), ("", "empty"), (5, "path in quotes")]
)
def test_unreadable_password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: object, why: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError) as caught:
        User.model_validate({"name": "a", "password_file": path})
    assert why in complaint(caught.value)


@pytest.mark.parametrize(
    ("hosts", "ip", "allowed"),
    [
        (None, "203.0.113.9", True),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "::1", False),
        (["10.0.0.5"], "10.0.0.5", True),
        (["10.0.0.5"], "10.0.0.6", False),
        (["10.0.0.5", "fd00::/8"], "fd12::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["localhost"], "127.0.0.1", True),
        (["localhost"], "127.1.2.3", True),
        (["localhost"], "::1", True),
        (["localhost"], "10.0.0.1", False),
        (["0.0.0.0/0"], "8.8.8.8", True),
    ],
)
def test_user_hosts(hosts: list[str] | None, ip: str, allowed: bool) -> None:
    assert user(hosts=hosts).allows(ip) is allowed


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        ([], "nobody could log in"),
        (["10.%"], "must be an address, a network"),
        (["db1"], "must be an address, a network"),
        (["10.1.0.0/8"], "write 10.0.0.0/8"),
        ([10], "must be an address, a network"),
    ],
)
def test_no_user_hosts(hosts: list[Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        user(hosts=hosts)
    assert why in complaint(caught.value)


@pytest.mark.parametrize("name", ["", "a\nb", "n" * 129])
def test_no_user_names(name: str) -> None:
    with pytest.raises(ValidationError):
        user(name=name)


def test_every_key_is_described() -> None:
    keys = list(walk())
    assert ("server", "users", "role") in [key.path for key in keys]
    assert [key.dotted for key in keys if not key.field.description] == []
