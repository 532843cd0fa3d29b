r"""LIKE: ``%`` any characters, ``_`` one, ``\`` makes the next one plain; case does not count.

Between ``%`` stand pieces of fixed length. Taking each where it first occurs is right, so each becomes an
atomic group that is never tried twice: the time is at most the text's length times the pattern's.
"""

from __future__ import annotations

import re

# What matching costs, in the unit of Context.spend: making a pattern ready takes this much a character,
COMPILING = 64
# and searching passes so many characters in one unit.
SEARCHING = 32


def matches(text: str, pattern: str) -> bool:
    """Whether ``text LIKE pattern``."""
    pieces = _pieces(pattern)
    if len(pieces) == 1:
        expression = pieces[0]
    else:
        first, *middle, last = pieces
        expression = first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last
    return re.fullmatch(expression, text, re.IGNORECASE | re.DOTALL) is not None


def _pieces(pattern: str) -> list[str]:
    """The regular expressions between the ``%``."""
    pieces: list[list[str]] = [[]]
    escaped = False
    for character in pattern:
        if escaped:
            pieces[-1].append(re.escape(character))
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "%":
            pieces.append([])
        else:
            pieces[-1].append("." if character == "_" else re.escape(character))
    if escaped:
        pieces[-1].append(re.escape("\\"))
    return ["".join(piece) for piece in pieces]
