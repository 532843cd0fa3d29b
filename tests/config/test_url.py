"""The source in one line, and no password in any error about it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.config.url import parse_source_url
from binlogd.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("mysql://repl:pw@db1:3307", {"hosts": ["db1:3307"], "user": "repl", "password": "pw"}),
        ("mysql://repl:pw@db1", {"hosts": ["db1:3306"], "user": "repl", "password": "pw"}),
        ("MariaDB://repl:pw@db1/", {"hosts": ["db1:3306"], "user": "repl", "password": "pw"}),
        ("mysql://repl@db1", {"hosts": ["db1:3306"], "user": "repl"}),
        ("mysql://repl:@db1", {"hosts": ["db1:3306"], "user": "repl", "password": ""}),
        ("mysql://r:p@[::1]:3306", {"hosts": ["[::1]:3306"], "user": "r", "password": "p"}),
        ("mysql://r%40x:%2F%3A%25%C3%A9@h", {"hosts": ["h:3306"], "user": "r@x", "password": "/:%é"}),
        ("mysql://r:a:b@c@h", {"hosts": ["h:3306"], "user": "r", "password": "a:b@c"}),
        (
            "mysql://r:p@h?tls=verify-ca&tls-ca=/etc/ca.pem",
            {"hosts": ["h:3306"], "user": "r", "password": "p", "tls": "verify-ca", "tls_ca": "/etc/ca.pem"},
        ),
    ],
)
def test_reads(url: str, source: dict[str, object]) -> None:
    assert parse_source_url(url) == source


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "not a MySQL URL"),
        ("repl:S3CRET@db1", "not a MySQL URL"),
        ("postgres://repl:S3CRET@db1", "not a MySQL URL"),
        ("mysql:/repl:S3CRET@db1", "not a MySQL URL"),
        ("mysql://db1:3306", "names no user"),
        ("mysql://:S3CRET@db1", "names no user"),
        ("mysql://u:S3/CRET@db1", "unencoded"),
        ("mysql://u:S3?CRET@db1", "unencoded"),
        ("mysql://u:S3#CRET@db1", "unencoded"),
        ("mysql://u:x@S3?tls=CRET@db1", "unencoded"),
        ("mysql://u:p@h#S3CRET", "unencoded"),
        ("mysql://u:S3/CRET", "names no user"),
        ("mysql://u:p@S3CRET!", "the address after the @"),
        ("mysql://u:p@h:S3CRET", "the address after the @"),
        ("mysql://u:p@", "the address after the @"),
        ("mysql://u:p@h/S3CRET", "names a database"),
        ("mysql://u:p@h?S3CRET=1", "unknown parameter"),
        ("mysql://u:p@h?tls", "unknown parameter"),
        ("mysql://u:p@h?tls=a&tls=b", "twice"),
        ("mysql://u:S3CRET%ff@h", "not UTF-8"),
    ],
)
def test_refuses_without_repeating_any_of_it(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        parse_source_url(url)
    assert "S3" not in str(caught.value)
    assert "CRET" not in str(caught.value)
    assert caught.value.hint


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(user=text, password=text, port=st.integers(1, 65535))
def test_encoded_credentials_round_trip(user: str, password: str, port: int) -> None:
    url = f"mysql://{quote(user, safe='')}:{quote(password, safe='')}@db1:{port}"
    assert parse_source_url(url) == {"hosts": [f"db1:{port}"], "user": user, "password": password}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_is_a_source_or_a_config_error(text: str) -> None:
    try:
        source = parse_source_url("mysql://" + text)
    except ConfigError:
        return
    assert {"hosts", "user"} <= source.keys()
