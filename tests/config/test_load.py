"""Where values come from, which is stronger, and the one line about whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from binlogd.config import NOT_YET, Purpose, Role, Settings, find_config, find_data_dir, layers, load_settings
from binlogd.config.layers import variable_of
from binlogd.config.model import walk
from binlogd.errors import ConfigError

SECRET = "S3CRET"
SOURCE = f'[source]\nhosts = ["db1"]\nuser = "repl"\npassword = "{SECRET}"\n'
URL = f"mysql://repl:{SECRET}@db1"
ENVIRON = {"BINLOGD_SOURCE__HOSTS": "db1", "BINLOGD_SOURCE__USER": "repl", "BINLOGD_SOURCE__PASSWORD": SECRET}

Write = Callable[[str], str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine, and no binlogd.toml of the current folder, is found."""
    monkeypatch.setattr(layers, "SYSTEM_CONFIG", tmp_path / "etc" / "binlogd.toml")
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        file = tmp_path / "b.toml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def load(config: str | None = None, environ: dict[str, str] | None = None, **options: Any) -> Settings:
    return load_settings(config, environ=environ or {}, **options)


def refusal(config: str | None = None, environ: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config, environ, **options)
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert len(text.splitlines()) == 1
    assert SECRET not in text
    return text


def test_a_source_alone_is_enough() -> None:
    settings = load(source="mysql://repl:pw@db1:3306")
    assert settings.source.hosts == (("db1", 3306),)
    assert settings.data_dir == Path("binlogd-data")
    assert settings.server.listen == ("127.0.0.1", 3307)
    assert settings.http.listen == ("127.0.0.1", 8307)
    (owner,) = settings.server.users
    assert owner.password is not None
    assert (owner.name, owner.password.get_secret_value(), owner.role) == ("repl", "pw", Role.ADMIN)


def test_the_strongest_wins(write: Write) -> None:
    file = write('data_dir = "file"\n' + SOURCE + '[server]\nlisten = "h:1"\nmax_connections = 1\n')
    environ = {"BINLOGD_DATA_DIR": "environment", "BINLOGD_SERVER__LISTEN": "h:2"}
    assert load(file).data_dir == Path("file")
    assert load(file, environ).data_dir == Path("environment")
    assert load(file, environ, data_dir="option").data_dir == Path("option")
    settings = load(file, environ, listen="h:3", http="h:4", source="mysql://other@db2")
    assert settings.server.listen.port == 3
    assert settings.http.listen.port == 4
    assert settings.server.max_connections == 1, "tables are merged key by key"
    assert (settings.source.user, settings.source.hosts[0].host) == ("other", "db2")
    assert settings.source.password.get_secret_value() == SECRET, "the URL said nothing of a password"


def test_every_option_has_a_variable() -> None:
    environ = {
        "BINLOGD_SERVER_ID": "7",
        "BINLOGD_SOURCE__HOSTS": "db2:3307",
        "BINLOGD_SOURCE__USER": "repl",
        "BINLOGD_SOURCE__PASSWORD": SECRET,
        "BINLOGD_SOURCE__FOLLOW": "first",
        "BINLOGD_SOURCE__SEMI_SYNC": "false",
        "BINLOGD_SOURCE__HEARTBEAT": "2s",
        "BINLOGD_SERVER__USERS": '[{"name": "a", "password": "", "hosts": ["localhost"]}]',
    }
    settings = load(environ=environ)
    assert settings.server_id == 7
    assert settings.source.hosts == (("db2", 3307),)
    assert settings.source.semi_sync is False
    assert settings.source.heartbeat == 2
    assert settings.server.users[0].allows("127.0.0.1")
    environ["BINLOGD_SOURCE__HOSTS"] = '["db3"]'
    assert load(environ=environ).source.hosts == (("db3", 3306),)
    # Each scalar key is known by its variable: a wrong value is a complaint about that key.
    for key in walk():
        if key.table is None and len(key.path) <= 2 and key.path[-1] not in ("user", "password"):
            bad = {variable_of(key.path): "\x01"}
            assert refusal(environ=ENVIRON | bad).startswith(key.dotted), key.dotted


@pytest.mark.parametrize("stronger", ["environment", "option"])
def test_one_password_replaces_another(tmp_path: Path, write: Write, stronger: str) -> None:
    file = write('[source]\nhosts = ["h"]\nuser = "u"\npassword_file = "/nowhere"\n')
    if stronger == "environment":
        settings = load(file, {"BINLOGD_SOURCE__PASSWORD": "new"})
    else:
        settings = load(file, source="mysql://u:new@h")
    assert settings.source.password.get_secret_value() == "new"
    assert settings.source.password_file is None
    secret = tmp_path / "secret"
    secret.write_text("from file\n")
    settings = load(write(SOURCE), {"BINLOGD_SOURCE__PASSWORD_FILE": str(secret)})
    assert settings.source.password.get_secret_value() == "from file"


def test_where_the_file_is_found(tmp_path: Path) -> None:
    assert find_config(None, {}) is None
    system = tmp_path / "etc" / "binlogd.toml"
    system.parent.mkdir()
    system.touch()
    assert find_config(None, {}) == system
    Path("binlogd.toml").touch()
    assert find_config(None, {}) == Path("binlogd.toml")
    assert find_config(None, {"BINLOGD_CONFIG": "env.toml"}) == Path("env.toml")
    assert find_config("option.toml", {"BINLOGD_CONFIG": "env.toml"}) == Path("option.toml")
    assert find_config(None, {"BINLOGD_CONFIG": ""}) == Path("binlogd.toml")


def test_the_found_file_is_read() -> None:
    Path("binlogd.toml").write_text(SOURCE)
    assert load().source.user == "repl"


def test_a_byte_order_mark_is_no_error(write: Write) -> None:
    assert load(write("\ufeff" + SOURCE)).source.user == "repl"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[source]\npasword = "x"', 'unknown key "source.pasword" in {} — did you mean source.password?'),
        ('hosts = ["x"]', 'unknown key "hosts" in {} — did you mean source.hosts?'),
        ('[sorce]\nuser = "x"', 'unknown key "sorce" in {} — did you mean source?'),
        (
            "[server]\nmax_conections = 1",
            'unknown key "server.max_conections" in {} — did you mean server.max_conn',
        ),
        (
            '[[server.users]]\nnam = "x"',
            'unknown key "server.users[0].nam" in {} — did you mean server.users.name?',
        ),
        ("[http]\nzzzzzzzz = 1", 'unknown key "http.zzzzzzzz" in {} — known here: listen'),
        ('source = "x"', "source (in {}) must be a table — write [source]"),
        (
            '[server.users]\nname = "x"',
            "server.users (in {}) must be a list of tables — write [[server.users]]",
        ),
        ("[server]\nusers = [1]", "server.users[0] (in {}) must be a table"),
        (
            '[source]\ntls = "on"',
            'source.tls = "on" (in {}): must be one of disabled, preferred, required, verify-ca',
        ),
        ("[source]\nsemi_sync = 3", "source.semi_sync = 3 (in {}): must be true or false"),
        ("[source]\nheartbeat = 1", "source.heartbeat = 1 (in {}): needs a unit and quotes"),
        ('[source]\nhosts = "db1"', 'source.hosts = "db1" (in {}): must be a list'),
        ('[source]\nhosts = ["db1", "db2:x"]', 'source.hosts[1] = "db2:x" (in {}): must be HOST:PORT'),
        ('[source]\nhosts = ["mysql://u:S3CRET@h"]', 'source.hosts[0] = "mysql://u:x@h" (in {}): must be'),
        ("[source]\nuser = 5", "source.user = 5 (in {}): must be text in quotes"),
        ("[source]\npassword = 5", "source.password (in {}): must be text"),
        (
            '[source]\npassword = "S3CRET"\npassword_file = "p"',
            'source.password_file = "p" (in {}): is given beside',
        ),
        (
            '[source]\npassword_file = "/nowhere"',
            'password_file = "/nowhere" (in {}): cannot be read: No such file',
        ),
        (
            '[source]\nread_timeout = "1s"',
            'source.read_timeout = "1s" (in {}): must be longer than source.heartbeat',
        ),
        ('[source]\nread_timeout = "100ms"\nheartbeat = "5s"', "must be longer than source.heartbeat, 5s"),
        ("server_id = 0", "server_id = 0 (in {}): must be at least 1"),
        ("server_id = true", "server_id = true (in {}): must be a whole number"),
        ("server_id = 4294967296", "server_id = 4294967296 (in {}): must be at most 4294967295"),
        ("server_id = 1.5", "server_id = 1.5 (in {}): must be a whole number"),
        (f'server_uuid = "{"x" * 99}"', f'server_uuid = "{"x" * 59}…" (in {{}}): must be a UUID'),
        ('[store]\nmax_size = "5G"', 'store.max_size = "5G" (in {}): G alone is ambiguous'),
        (
            '[[server.users]]\nname = "a"\npassword = ""\n[[server.users]]\nname = "b"',
            "server.users[1].password",
        ),
        (
            '[[server.users]]\nname = "a"\npassword_hash = "S3CRET"',
            "server.users[0].password_hash (in {}): must be",
        ),
        ('[[server.users]]\npassword = ""', "server.users[0].name: is missing"),
        ("x = ", "{} is not valid TOML: Invalid value (at "),
        (
            "data_dir = /var/lib",
            "{} is not valid TOML: Invalid value (at line 1, column 12) — text stands in quotes",
        ),
    ],
)
def test_one_line_about_what_is_wrong_in_a_file(write: Write, text: str, what: str) -> None:
    file = write(text)
    assert what.format(file) in refusal(file)


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        (
            {"BINLOGD_SORCE__USER": "x"},
            "unknown environment variable BINLOGD_SORCE__USER — did you mean BINLOGD_SOURCE__",
        ),
        (
            {"BINLOGD_DATADIR": "x"},
            "unknown environment variable BINLOGD_DATADIR — did you mean BINLOGD_DATA_DIR?",
        ),
        ({"BINLOGD_SOURCE": "x"}, "unknown environment variable BINLOGD_SOURCE — "),
        ({"BINLOGD_SOURCE__user": "x"}, "unknown environment variable BINLOGD_SOURCE__user — "),
        ({"BINLOGD_SERVER__USERS__NAME": "x"}, "unknown environment variable BINLOGD_SERVER__USERS__NAME"),
        ({"BINLOGD_": "x"}, "unknown environment variable BINLOGD_ — "),
        (
            {"BINLOGD_SOURCE__TLS": "on"},
            'source.tls = "on" (environment variable BINLOGD_SOURCE__TLS): must be one of',
        ),
        (
            {"BINLOGD_SERVER_ID": "x"},
            'server_id = "x" (environment variable BINLOGD_SERVER_ID): must be a whole number',
        ),
        ({"BINLOGD_SOURCE__SEMI_SYNC": "x"}, "must be true or false"),
        (
            {"BINLOGD_SOURCE__HOSTS": "a,b:x"},
            'source.hosts[1] = "b:x" (environment variable BINLOGD_SOURCE__HOSTS)',
        ),
        ({"BINLOGD_SOURCE__HOSTS": "[a"}, "BINLOGD_SOURCE__HOSTS must be a JSON list"),
        ({"BINLOGD_SERVER__USERS": "a:S3CRET"}, "BINLOGD_SERVER__USERS must be a JSON list"),
        ({"BINLOGD_SERVER__USERS": '{"S3CRET": 1}'}, "BINLOGD_SERVER__USERS must be a JSON list"),
        (
            {"BINLOGD_SERVER__USERS": '[{"name": "a", "pasword": "S3CRET"}]'},
            'unknown key "server.users[0].pasword" in environment variable BINLOGD_SERVER__USERS',
        ),
        (
            {"BINLOGD_SERVER__USERS": '[{"name": "a", "password": "S3CRET", "role": "x"}]'},
            'server.users[0].role = "x" (environment variable BINLOGD_SERVER__USERS): must be one of',
        ),
    ],
    ids=str,
)
def test_one_line_about_what_is_wrong_in_the_environment(environ: dict[str, str], what: str) -> None:
    assert what in refusal(environ=ENVIRON | environ)


def test_variables_that_are_no_keys() -> None:
    environ = {
        "BINLOGD_DEBUG": "1",
        "BINLOGD_MYSQLD": "/x",
        "BINLOGD_TEST_CACHE": "y",
        "BINLOGDX": "z",
        "PATH": "/",
    }
    assert load(environ=environ, source=URL)


def test_variables_that_kubernetes_and_docker_make() -> None:
    environ = {
        "BINLOGD_SERVICE_HOST": "10.0.0.1",
        "BINLOGD_SERVICE_PORT": "3307",
        "BINLOGD_SERVICE_PORT_MYSQL": "3307",
        "BINLOGD_PORT": "tcp://10.0.0.1:3307",
        "BINLOGD_PORT_3307_TCP": "tcp://10.0.0.1:3307",
        "BINLOGD_PORT_3307_TCP_ADDR": "10.0.0.1",
        "BINLOGD_PAGE_SERVICE_HOST": "10.0.0.2",
        "BINLOGD_PAGE_PORT_8307_TCP": "tcp://10.0.0.2:8307",
        "BINLOGD_DOCKER_PORT": "tcp://10.0.0.3:1",
        "BINLOGD_DOCKER_PORT_1_TCP": "tcp://10.0.0.3:1",
    }
    assert load(environ=environ, source=URL)
    assert "BINLOGD_HTTP_PORT" in refusal(environ=environ | {"BINLOGD_HTTP_PORT": "8307"}, source=URL)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"source": "mysql://db1"}, "--source names no user"),
        ({"source": URL + "?tls=on"}, 'source.tls = "on" (--source): must be one of'),
        ({"source": URL, "listen": "3307"}, 'server.listen = "3307" (--listen): must be HOST:PORT'),
        ({"source": URL, "http": "h:x"}, 'http.listen = "h:x" (--http): must be HOST:PORT'),
        ({"source": URL, "data_dir": ""}, "data_dir"),
        (
            {"source": URL, "config": "/nowhere/b.toml"},
            "cannot read the configuration file /nowhere/b.toml: No such",
        ),
        ({"source": URL, "config": "."}, "cannot read the configuration file .: Is a directory"),
    ],
)
def test_one_line_about_what_is_wrong_in_an_option(options: dict[str, Any], what: str) -> None:
    assert what in refusal(**options)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in refusal(str(file))


def test_what_must_be_there() -> None:
    assert refusal().startswith("source.hosts is missing — give --source mysql://")
    assert refusal(environ={"BINLOGD_SOURCE__HOSTS": "h"}).startswith("source.user is missing")
    assert refusal(source="mysql://u@h").startswith("source.password is missing")
    assert load(source="mysql://u:@h").source.password.get_secret_value() == ""
    assert load(source="mysql://u@h", environ={"BINLOGD_SOURCE__PASSWORD": ""}).source.has_password


def test_what_must_be_there_for_each_purpose(write: Write) -> None:
    users = write('[[server.users]]\nname = "a"\npassword = ""\n')
    assert load(users, purpose=Purpose.SERVE).source.hosts == ()
    for purpose in (Purpose.RUN, Purpose.RECEIVE):
        assert refusal(users, purpose=purpose).startswith("source.hosts is missing")
    assert refusal(purpose=Purpose.SERVE).startswith("server.users is missing, so nobody could log in")
    assert load(source=URL, purpose=Purpose.SERVE).server.users[0].name == "repl"
    assert load(source=URL, purpose=Purpose.RECEIVE).source.user == "repl"


# A configuration in which only this option asks for what the version cannot do.
UNAVAILABLE = {
    "archive.url": {"BINLOGD_ARCHIVE__URL": "s3://bucket/prefix"},
}


@pytest.mark.parametrize("key", NOT_YET)
def test_what_is_not_available_is_refused(key: str) -> None:
    assert load(environ=ENVIRON)
    text = refusal(environ=ENVIRON | UNAVAILABLE[key])
    assert text.startswith(key)
    assert "not available in this version — " in text
    for variable in UNAVAILABLE[key]:
        assert variable in text


def test_find_data_dir(write: Write) -> None:
    file = write('data_dir = "file"\n[source]\npassword_file = "/nowhere"\n')
    environment = {"BINLOGD_DATA_DIR": "environment"}
    assert find_data_dir("option", config=file, environ=environment) == Path("option")
    assert find_data_dir(config=file, environ=environment) == Path("environment")
    assert find_data_dir(config=file, environ={}) == Path("file"), "no password file is read, no source asked for"
    assert find_data_dir(environ=environment) == Path("environment")
    assert find_data_dir(environ={}) == Path("binlogd-data")


def test_find_data_dir_agrees_with_run(write: Write) -> None:
    file = write('data_dir = "file"\n' + SOURCE)
    environments: tuple[dict[str, str], ...] = ({}, {"BINLOGD_DATA_DIR": "environment"})
    for environ in environments:
        for data_dir in (None, "option"):
            for config in (None, file):
                ran = load(config, environ, source=URL, data_dir=data_dir).data_dir
                assert find_data_dir(data_dir, config=config, environ=environ) == ran


def test_find_data_dir_needs_nothing_else_when_it_is_told() -> None:
    Path("binlogd.toml").write_text("broken")
    assert find_data_dir("option", environ={"BINLOGD_X": "1"}) == Path("option")
    with pytest.raises(ConfigError, match="not valid TOML"):
        find_data_dir(environ={})
    with pytest.raises(ConfigError, match="BINLOGD_X"):
        find_data_dir(environ={"BINLOGD_X": "1"})


@pytest.mark.parametrize("text", ["data_dir = 5", 'data_dir = ""', 'data_dir = "~/x"'])
def test_find_data_dir_refuses(write: Write, text: str) -> None:
    file = write(text)
    with pytest.raises(ConfigError, match=r"^data_dir = .* \(in .*\): "):
        find_data_dir(config=file, environ={})
    with pytest.raises(ConfigError, match=r"^data_dir: must not be empty"):
        find_data_dir("")


def test_json_in_the_environment_is_what_toml_says(write: Write) -> None:
    users = [{"name": "a", "password": "x", "hosts": ["10.0.0.0/8"], "role": "monitor"}]
    by_environment = load(environ={"BINLOGD_SERVER__USERS": json.dumps(users)}, source=URL)
    by_file = load(
        write('[[server.users]]\nname = "a"\npassword = "x"\nhosts = ["10.0.0.0/8"]\nrole = "monitor"\n'),
        source=URL,
    )
    assert by_environment == by_file
