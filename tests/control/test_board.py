"""The board: what was removed is in every publication from then on, whoever comes between."""

from __future__ import annotations

from binlogd.binlog.gtid import GtidSet
from binlogd.control.board import Board
from binlogd.store.publication import Publication, Step
from binlogd.store.removed import ALL, First
from tests.binlog.making import UUID_A

LEFT: First = (1, "b.000002")


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(f"{UUID_A}:{text}") if text else GtidSet()


EXECUTED = gtids("1-9")
PURGED = GtidSet()


def publication(position: int, again: str = "") -> Publication:
    """As the receiving thread makes it: it knows of no removal. ``again``: what came in it that was executed before."""
    step = Step(EXECUTED, gtids(again), EXECUTED) if again else None
    return Publication(1, "b.000003", position, EXECUTED, PURGED, "8.4.0", step)


def shown(board: Board) -> tuple[int, str, First]:
    current = board.current
    assert current is not None
    return current.position, current.purged.compact(), current.first


def test_what_was_removed_stays_removed() -> None:
    board = Board(publication(1))
    board.amend(LEFT, gtids("1-3"))
    assert shown(board) == (1, f"{UUID_A}:1-3", LEFT)
    board.put(publication(2))
    assert shown(board) == (2, f"{UUID_A}:1-3", LEFT)
    board.amend((1, "b.000003"), gtids("4"))
    assert shown(board) == (2, f"{UUID_A}:1-4", (1, "b.000003"))


def test_what_is_sent_again_is_purged_no_more() -> None:
    board = Board(publication(1))
    board.amend(LEFT, gtids("1-5"))
    board.put(publication(2, "3"))
    board.put(publication(3))
    assert shown(board) == (3, f"{UUID_A}:1-2:4-5", LEFT)


class Between(Board):
    """Something is published, or removed, between the steps of another thread."""

    def __init__(self, current: Publication | None) -> None:
        super().__init__(current)
        self.between: list[tuple[int, object]] = []

    def _with_removed(self, publication: Publication) -> Publication:
        made = super()._with_removed(publication)
        if self.between:
            position, what = self.between.pop()
            if isinstance(what, GtidSet):
                self.amend(LEFT, what)
            else:
                self.put(_publication(position, str(what)))
        return made


_publication = publication


def test_what_is_sent_again_while_others_are_told_of_the_removal() -> None:
    board = Between(publication(1))
    board.between = [(2, "3")]
    board.amend(LEFT, gtids("1-5"))
    board.put(publication(3))
    assert shown(board) == (3, f"{UUID_A}:1-2:4-5", LEFT)


def test_a_removal_while_something_is_published() -> None:
    board = Between(publication(1))
    board.between = [(0, gtids("1-3"))]
    board.put(publication(2))
    assert shown(board) == (2, f"{UUID_A}:1-3", LEFT)


def test_before_the_first_publication_nothing_is_amended() -> None:
    board = Board(None)
    board.amend(LEFT, gtids("1-3"))
    assert board.current is None
    board.put(publication(1))
    assert shown(board) == (1, "", ALL)
