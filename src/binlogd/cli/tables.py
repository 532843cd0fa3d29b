"""Tables for people: aligned columns as plain text, which grep, less and a narrow terminal all leave whole.

A cell is never cut and never folded, whatever the width: a name of which a part is missing is no name. A terminal wraps
a line that is too long, and a file or pipe gets it as it is. What comes from a peer (a file's name, a host) cannot
write control characters: such a cell is shown escaped. Programs read ``--json``.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len  # terminal columns: a Chinese character takes two

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The lines of ``rows``, each column as wide as its widest cell; those in ``right`` (from 0) right-aligned."""
    table = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    return [
        GAP.join(
            f"{space}{cell}" if index in right else f"{cell}{space}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            for space in (" " * (width - cell_len(cell)),)
        ).rstrip()
        for row in table
    ]


def padded(cell: str, width: int, *, right: bool = False) -> str:
    """A cell of a table whose rows are printed as they come, so that nobody knows the widest."""
    shown = printable(cell)
    space = " " * (width - cell_len(shown))
    return f"{space}{shown}" if right else f"{shown}{space}"


def printable(text: str) -> str:
    """``text`` with what would move the cursor or change colours as an escape sequence that can be read."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
