"""SQL text to tokens.

What MySQL's lexer does (``sql/sql_lex.cc``), for the statements a listener is sent: comments ``-- ``, ``#``
and ``/* */``; ``/*!NNNNN ... */``, whose content counts when the version is not above ours; strings in either
quote with backslash escapes and doubled quotes; names in backquotes; numbers; ``@user`` and ``@@system``
variables, parts of which may be quoted; operators, with or without blanks around them. Dollar quotes (``$$``,
MySQL 9) are not known, as in MySQL 8: the mysql program sends ``select $$`` to find out, and takes 1064 for
an answer.

The input is hostile. It is bounded by MAX_STATEMENT_BYTES; every pattern is possessive, so that no input
makes one backtrack and the time is linear; bytes that are not UTF-8 travel as lone surrogates, are skipped
inside comments, refused inside strings and names (1300), and are a syntax error anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from binlogd.sender.sql.refusals import invalid_characters, syntax_error, too_big

# What clients send is below 1 KiB, save a GTID set in a function's argument: 64 KiB holds one of 1,300
# intervals.
MAX_STATEMENT_BYTES = 64 * 1024


class TokenKind(Enum):
    WORD = "word"  # a keyword or a bare name
    NAME = "name"  # a name in backquotes: never a keyword
    STRING = "string"
    NUMBER = "number"
    USER_VARIABLE = "user variable"
    SYSTEM_VARIABLE = "system variable"
    OPERATOR = "operator"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: ``statement[start:end]``.

    ``value`` is what it stands for: the string's or name's content, the number's digits, a user variable's
    name, a system variable's dotted name, else the text itself. ``upper`` is ``value`` in capitals for a
    WORD, else the text of an OPERATOR, else empty: what keywords are compared with.
    """

    kind: TokenKind
    value: str
    upper: str
    start: int
    end: int


# Characters of a bare name: MySQL's, which are all of U+0080 to U+FFFF too. Surrogates are undecodable bytes.
_NAME = r"0-9A-Za-z_$\x80-\ud7ff\ue000-\uffff"
_SINGLE = r"'(?:[^'\\]++|\\.|'')*+'"
_DOUBLE = r'"(?:[^"\\]++|\\.|"")*+"'
_BACK = r"`(?:[^`]++|``)*+`"

_TOKEN = re.compile(
    rf"""
      (?P<blank>[ \t\n\v\f\r]++ | \#[^\n]*+ | --(?=[\x00-\x20]|\Z)[^\n]*+)
    | (?P<executable>/\*!(?P<version>[0-9]{{5,6}}+)?)
    | (?P<comment>/\*)
    | (?P<close>\*/)
    | (?P<hex>0x[0-9A-Fa-f]++(?![{_NAME}]) | [xX]'(?:[0-9A-Fa-f]{{2}})*+')
    | (?P<bits>0b[01]++(?![{_NAME}]) | [bB]'[01]*+')
    | (?P<number>(?:[0-9]++(?:\.[0-9]*+)?+ | \.[0-9]++)(?:[eE][+-]?[0-9]++)?+(?![{_NAME}]))
    | (?P<dollar>\$[0-9A-Za-z_]*+\$)
    | (?P<word>[{_NAME}]++)
    | (?P<string>{_SINGLE} | {_DOUBLE})
    | (?P<name>{_BACK})
    | (?P<system>@@(?:[{_NAME}]++|{_BACK})(?:\.(?:[{_NAME}]++|{_BACK}))*+)
    | (?P<user>@(?:[{_NAME}.]++|{_SINGLE}|{_DOUBLE}|{_BACK}))
    | (?P<operator><=> | := | <= | >= | <> | != | \|\| | && | [=<>!+\-*/%,;().&|^~])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_VARIABLE_PART = re.compile(rf"[{_NAME}]++|{_BACK}")
_ESCAPE = re.compile(r"\\(.)|''|\"\"", re.DOTALL)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_SURROGATE = re.compile("[\udc80-\udcff]")


def decode(statement: str | bytes) -> str:
    """The statement as text, undecodable bytes as lone surrogates; Refusal 1153 when it is too long."""
    raw = statement.encode("utf-8", "surrogatepass") if isinstance(statement, str) else statement
    if len(raw) > MAX_STATEMENT_BYTES:
        raise too_big()
    return raw.decode("utf-8", "surrogateescape")


def tokenize(statement: str, *, server_version: int = 0) -> list[Token]:
    """The tokens of ``statement``, the last of kind END.

    ``server_version`` (90704 for 9.7.4) decides which ``/*!NNNNN`` comments count. Raises Refusal 1064, 1300.
    """
    tokens: list[Token] = []
    position, length = 0, len(statement)
    opened = False  # inside /*! whose content counts
    while position < length:
        match = _TOKEN.match(statement, position)
        if match is None:
            raise syntax_error(statement, position)
        group, start, position = match.lastgroup, position, match.end()
        match group:
            case "blank":
                continue
            case "executable":
                version = match["version"]
                if version is not None and int(version) > server_version:
                    position = _comment_end(statement, start, nested=True)
                else:
                    opened = True
            case "comment":
                position = _comment_end(statement, start, nested=False)
            case "close":
                if not opened:  # as two operators no statement has them side by side
                    raise syntax_error(statement, start)
                opened = False
            case "dollar":
                raise syntax_error(statement, start)
            case _:
                assert group is not None
                tokens.append(_token(group, match.group(), start))
    if opened:
        raise syntax_error(statement, length)
    tokens.append(Token(TokenKind.END, "", "", length, length))
    return tokens


def _comment_end(statement: str, start: int, *, nested: bool) -> int:
    """Where the comment opened at ``start`` ends; only skipped ``/*!`` comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(statement, start):
        if edge.group() == "*/":
            depth -= 1
        elif nested or depth == 0:
            depth += 1
        if depth == 0:
            return edge.end()
    raise syntax_error(statement, start)


def _token(group: str, text: str, start: int) -> Token:
    end = start + len(text)
    match group:
        case "word":
            return Token(TokenKind.WORD, text, text.upper(), start, end)
        case "name":
            return Token(TokenKind.NAME, _unquoted(text), "", start, end)
        case "string":
            return Token(TokenKind.STRING, _unquoted(text), "", start, end)
        case "number":
            return Token(TokenKind.NUMBER, text, "", start, end)
        case "hex":
            return Token(TokenKind.STRING, _utf8(_hex_bytes(text[2:].rstrip("'"))), "", start, end)
        case "bits":
            digits = text[2:].rstrip("'")
            raw = int(digits or "0", 2).to_bytes((len(digits) + 7) // 8, "big")
            return Token(TokenKind.STRING, _utf8(raw), "", start, end)
        case "user":
            return Token(TokenKind.USER_VARIABLE, _unquoted(text[1:]), "", start, end)
        case "system":
            name = ".".join(_unquoted(part) for part in _VARIABLE_PART.findall(text, 2))
            return Token(TokenKind.SYSTEM_VARIABLE, name, "", start, end)
        case _:
            return Token(TokenKind.OPERATOR, text, text, start, end)


def _hex_bytes(digits: str) -> bytes:
    return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise invalid_characters("utf8mb4", raw[error.start :]) from None


def _unquoted(text: str) -> str:
    """The content of a string or quoted name; a bare word as it is. Refusal 1300 when it is not UTF-8."""
    broken = _SURROGATE.search(text)
    if broken is not None:
        raise invalid_characters("utf8mb4", text[broken.start() :].encode("utf-8", "surrogateescape"))
    quote = text[:1]
    if quote == "`":
        return text[1:-1].replace("``", "`")
    if quote and quote in "'\"":
        return _ESCAPE.sub(lambda found: _unescaped(found, quote), text[1:-1])
    return text


def _unescaped(found: re.Match[str], quote: str) -> str:
    escaped: str | None = found.group(1)
    if escaped is not None:
        return _ESCAPES.get(escaped, escaped)
    return quote if found.group()[0] == quote else found.group()
