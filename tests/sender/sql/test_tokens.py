"""Text to tokens, hostile text too."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import Refusal
from binlogd.sender.sql.tokens import MAX_STATEMENT_BYTES, TokenKind, decode, tokenize


def values(statement: str | bytes, server_version: int = 90704) -> list[tuple[str, str]]:
    *tokens, end = tokenize(decode(statement), server_version=server_version)
    assert end.kind is TokenKind.END
    return [(token.kind.name, token.value) for token in tokens]


def code(statement: str | bytes) -> int:
    with pytest.raises(Refusal) as caught:
        tokenize(decode(statement))
    return caught.value.code


def test_words_numbers_and_operators_with_and_without_blanks() -> None:
    assert values("SET @master_heartbeat_period= 1") == [
        ("WORD", "SET"),
        ("USER_VARIABLE", "master_heartbeat_period"),
        ("OPERATOR", "="),
        ("NUMBER", "1"),
    ]
    assert values("a<=>b:=c!=1.5e-3,.5") == [
        ("WORD", "a"),
        ("OPERATOR", "<=>"),
        ("WORD", "b"),
        ("OPERATOR", ":="),
        ("WORD", "c"),
        ("OPERATOR", "!="),
        ("NUMBER", "1.5e-3"),
        ("OPERATOR", ","),
        ("NUMBER", ".5"),
    ]


def test_a_name_may_begin_with_digits_and_hold_any_letter() -> None:
    assert values("1abc 0xfg e1 größe a$b") == [("WORD", word) for word in ("1abc", "0xfg", "e1", "größe", "a$b")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'abc'", "abc"),
        ('"abc"', "abc"),
        ("''", ""),
        ("'it''s'", "it's"),
        ("'say \"\"'", 'say ""'),
        ('"say ""hi"" it\'\'s"', "say \"hi\" it''s"),
        (r"'a\'b'", "a'b"),
        (r"'\n\t\0\Z\\\x'", "\n\t\0\x1a\\x"),
        (r"'100\%\_'", r"100\%\_"),
        ("'a\nb'", "a\nb"),
        ("'ü€😀'", "ü€😀"),
        ("0x414243", "ABC"),
        ("0x141", "\x01A"),
        ("x'4142'", "AB"),
        ("X''", ""),
        ("0b1000001", "A"),
        ("b'01000010'", "B"),
        ("b''", ""),
    ],
)
def test_strings(text: str, value: str) -> None:
    assert values(text) == [("STRING", value)]


def test_names_in_backquotes_are_no_keywords() -> None:
    (token, _) = tokenize("`SELECT``x`")
    assert (token.kind, token.value, token.upper) == (TokenKind.NAME, "SELECT`x", "")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("@x", "USER_VARIABLE", "x"),
        ("@a.b$c", "USER_VARIABLE", "a.b$c"),
        ("@'a b'", "USER_VARIABLE", "a b"),
        ('@"a b"', "USER_VARIABLE", "a b"),
        ("@`a b`", "USER_VARIABLE", "a b"),
        ("@@x", "SYSTEM_VARIABLE", "x"),
        ("@@GLOBAL.server_id", "SYSTEM_VARIABLE", "GLOBAL.server_id"),
        ("@@session.`autocommit`", "SYSTEM_VARIABLE", "session.autocommit"),
        ("@@a.b.c", "SYSTEM_VARIABLE", "a.b.c"),
    ],
)
def test_variables(text: str, kind: str, value: str) -> None:
    assert values(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT/**/1",
        "-- x\nSELECT 1",
        "--\nSELECT 1#x",
        "SELECT /* ' */ 1 --",
        "\t\v\fSELECT\r\n1\n",
    ],
)
def test_comments_and_blanks_are_nothing(text: str) -> None:
    assert values(text) == [("WORD", "SELECT"), ("NUMBER", "1")]


def test_two_minus_without_a_blank_are_operators() -> None:
    assert values("1--1") == [("NUMBER", "1"), ("OPERATOR", "-"), ("OPERATOR", "-"), ("NUMBER", "1")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/*!40101 a */ b", "ab"),
        ("/*!a*/b", "ab"),
        ("/*!90704 a*/b", "ab"),
        ("/*!090704 a*/b", "ab"),
        ("/*!90705 a*/b", "b"),
        ("/*!100000 a*/b", "b"),
        ("/*!99999 a /* c */ d */b", "b"),
        ("/*!40101 a /* c */ d */b", "adb"),
        ("/*+ HINT() */b", "b"),
        ("/*M!100000 a*/b", "b"),
    ],
)
def test_comments_with_a_version_count_up_to_ours(text: str, words: str) -> None:
    assert "".join(value for _, value in values(text)) == words


@pytest.mark.parametrize(
    "text",
    [
        "'abc",
        '"abc',
        "'abc\\'",
        "`abc",
        "/* abc",
        "/*! abc",
        "/*!99999 abc /* */",
        "abc */",
        "$$",
        "$tag$ x $tag$",
        "@",
        "@@",
        "\0",
        "{",
        "\\",
    ],
)
def test_what_is_no_token_is_a_syntax_error(text: str) -> None:
    assert code(text) == 1064


def test_the_error_says_where() -> None:
    with pytest.raises(Refusal, match=r"near ''abc' at line 3$") as caught:
        tokenize("SELECT\n1,\n 'abc")
    assert caught.value.sqlstate == "42000"


def test_the_error_quotes_little_and_only_what_is_printable() -> None:
    with pytest.raises(Refusal) as caught:
        tokenize("'\n\x07" + "y" * 1000)
    assert "near '' ?" + "y" * 77 + "' at" in caught.value.message


@pytest.mark.parametrize("text", [b"'a\xff'", b'"\xc3"', b"`\xed\xa0\x80`", b"@'\xff'", b"@@`\xff`", b"0xff", b"x'c3'"])
def test_strings_and_names_must_be_utf8(text: bytes) -> None:
    assert code(text) == 1300


def test_other_bytes_in_comments_do_no_harm_and_elsewhere_are_syntax_errors() -> None:
    assert values(b"/* \xff */ a -- \xfe") == [("WORD", "a")]
    assert code(b"a \xff") == 1064


def test_statements_are_bounded_in_bytes() -> None:
    assert len(decode(b" " * MAX_STATEMENT_BYTES)) == MAX_STATEMENT_BYTES
    for statement in (b" " * (MAX_STATEMENT_BYTES + 1), "€" * (MAX_STATEMENT_BYTES // 3 + 1)):
        with pytest.raises(Refusal) as caught:
            decode(statement)
        assert caught.value.code == 1153


@pytest.mark.parametrize(
    "piece",
    ["'", '"', "`", "/*", "*/", "/*!", "--", "\\'", "''", "'\\", "$", "1.", "1e", "@", "@@a.", "0x", "\n"],
)
def test_no_input_takes_long(piece: str) -> None:
    """A pattern that backtracks would take minutes for these, not part of a second."""
    text = piece * (MAX_STATEMENT_BYTES // len(piece))
    begun = time.process_time()
    for statement in (text, "SELECT '" + text[:-20], "/*!99999" + text[:-20]):
        try:
            tokenize(statement)
        except Refusal:
            continue
    assert time.process_time() - begun < 10


@settings(max_examples=300)
@given(st.binary(max_size=80) | st.text(alphabet="ab1'\"`\\/*!-#@$.=<>0xe \n\0ü", max_size=40))
def test_any_input_gives_tokens_or_a_refusal(statement: str | bytes) -> None:
    text = decode(statement)
    try:
        tokens = tokenize(text)
    except Refusal as raised:
        refusal: Refusal | None = raised
        tokens = []
    else:
        refusal = None
    if refusal is not None:
        assert refusal.code in (1064, 1300)
        refusal.message.encode()
        assert "\n" not in refusal.message
        return
    edges = [edge for token in tokens for edge in (token.start, token.end)]
    assert edges == sorted(edges)
    assert edges[-1] == len(text)
    for token in tokens:
        token.value.encode()
