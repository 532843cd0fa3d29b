"""Character sets and collations a client may name, and which of them a connection may use.

All a listener says is ASCII but for text the client itself sent, and it reads statements as UTF-8; every
character set below holds ASCII under ASCII's own bytes, so a client with any of them understands the answers.
Statements in one of the Asian double-byte sets are refused where they are not also UTF-8 (error 1300), never
misread. UTF-16 and its like cannot be a client's character set, in MySQL neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from binlogd.sender.sql.refusals import collation_mismatch, unknown_charset, unknown_collation, wrong_value

DEFAULT_CHARSET = "utf8mb4"

# Name → default collation, as SHOW CHARACTER SET lists them.
CHARSETS: Mapping[str, str] = MappingProxyType(
    {
        "armscii8": "armscii8_general_ci",
        "ascii": "ascii_general_ci",
        "big5": "big5_chinese_ci",
        "binary": "binary",
        "cp1250": "cp1250_general_ci",
        "cp1251": "cp1251_general_ci",
        "cp1256": "cp1256_general_ci",
        "cp1257": "cp1257_general_ci",
        "cp850": "cp850_general_ci",
        "cp852": "cp852_general_ci",
        "cp866": "cp866_general_ci",
        "cp932": "cp932_japanese_ci",
        "dec8": "dec8_swedish_ci",
        "eucjpms": "eucjpms_japanese_ci",
        "euckr": "euckr_korean_ci",
        "gb18030": "gb18030_chinese_ci",
        "gb2312": "gb2312_chinese_ci",
        "gbk": "gbk_chinese_ci",
        "geostd8": "geostd8_general_ci",
        "greek": "greek_general_ci",
        "hebrew": "hebrew_general_ci",
        "hp8": "hp8_english_ci",
        "keybcs2": "keybcs2_general_ci",
        "koi8r": "koi8r_general_ci",
        "koi8u": "koi8u_general_ci",
        "latin1": "latin1_swedish_ci",
        "latin2": "latin2_general_ci",
        "latin5": "latin5_turkish_ci",
        "latin7": "latin7_general_ci",
        "macce": "macce_general_ci",
        "macroman": "macroman_general_ci",
        "sjis": "sjis_japanese_ci",
        "tis620": "tis620_thai_ci",
        "ucs2": "ucs2_general_ci",
        "ujis": "ujis_japanese_ci",
        "utf16": "utf16_general_ci",
        "utf16le": "utf16le_general_ci",
        "utf32": "utf32_general_ci",
        "utf8": "utf8mb3_general_ci",
        "utf8mb3": "utf8mb3_general_ci",
        "utf8mb4": "utf8mb4_0900_ai_ci",
    }
)
_NOT_FOR_CLIENTS = frozenset({"ucs2", "utf16", "utf16le", "utf32"})
MAX_COLLATION_NAME = 64


def charset_named(name: str) -> str:
    """The character set called ``name``; ``utf8`` is utf8mb3. Refusal 1115 when there is none."""
    folded = name.lower()
    if folded not in CHARSETS:
        raise unknown_charset(name)
    return "utf8mb3" if folded == "utf8" else folded


def client_charset(name: str) -> str:
    """As ``charset_named``; Refusal 1231 for one a client cannot have."""
    charset = charset_named(name)
    if charset in _NOT_FOR_CLIENTS:
        raise wrong_value("character_set_client", charset)
    return charset


def charset_of_collation(collation: str) -> str:
    """The character set ``collation`` belongs to, by the rule of their names. Refusal 1273 when to none."""
    prefix = collation.lower().partition("_")[0]
    charset = "utf8mb3" if prefix == "utf8" else prefix
    if len(collation) > MAX_COLLATION_NAME or charset not in CHARSETS:
        raise unknown_collation(collation)
    if (charset == "binary") != (collation.lower() == "binary"):
        raise unknown_collation(collation)
    return charset


def collation_for(charset: str, collation: str | None) -> str:
    """``collation`` when it fits ``charset``, the default one when None. Refusal 1253, 1273."""
    if collation is None:
        return CHARSETS[charset]
    if charset_of_collation(collation) != charset:
        raise collation_mismatch(collation, charset)
    return collation.lower()
