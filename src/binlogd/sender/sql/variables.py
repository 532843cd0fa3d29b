"""System variables of one session: reading, listing and setting them by MySQL's rules of scope.

``@@x`` is the session's value where there is one, else the global; ``@@global.x`` of a session variable and
``@@session.x`` of a global one are error 1238; an unknown name is 1193, and no row in SHOW VARIABLES. Names
are not case-sensitive, and errors repeat them as they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from binlogd.sender.sql.catalog import CATALOG, Validity, VariableKind, VariableSpec
from binlogd.sender.sql.charsets import (
    CHARSETS,
    DEFAULT_CHARSET,
    charset_of_collation,
    client_charset,
    collation_for,
)
from binlogd.sender.sql.expressions import Scope, Value
from binlogd.sender.sql.facts import ServerFacts
from binlogd.sender.sql.refusals import (
    not_for_set_global,
    session_value_is_read_only,
    unknown_variable,
    wrong_scope,
)
from binlogd.sender.sql.results import as_text
from binlogd.sender.sql.session import Diagnostic, SessionState

# A character set and the collation that goes with it: whoever sets one sets the other.
_PAIRS = {
    "character_set_connection": "collation_connection",
    "character_set_database": "collation_database",
    "character_set_server": "collation_server",
}
_PAIRED_BACK = {collation: charset for charset, collation in _PAIRS.items()}


class SystemVariables:
    """The variables as ``session`` sees them; ``catalog`` is the table of all there are."""

    def __init__(
        self, facts: ServerFacts, session: SessionState, catalog: Mapping[str, VariableSpec] = CATALOG
    ) -> None:
        self._facts = facts
        self._session = session
        self._catalog = catalog
        self.warnings: list[Diagnostic] = []  # of this statement

    def read(self, name: str, scope: Scope | None = None) -> Value:
        """The value of ``@@scope.name``. Refusal 1193, 1238."""
        return self._value(self.check(name, scope), scope or Scope.SESSION)

    def check(self, name: str, scope: Scope | None) -> VariableSpec:
        """What ``@@scope.name`` is. Refusal 1193, 1238."""
        spec = self._known(name)
        if scope is Scope.GLOBAL and spec.validity is Validity.SESSION:
            raise wrong_scope(name, "SESSION")
        if scope is Scope.SESSION and spec.validity is Validity.GLOBAL:
            raise wrong_scope(name, "GLOBAL")
        return spec

    def kind(self, name: str) -> VariableKind:
        """What it is. Refusal 1193."""
        return self._known(name).kind

    def listing(self, scope: Scope) -> Iterator[tuple[str, Callable[[], str]]]:
        """Name and value of each variable SHOW VARIABLES lists for ``scope``, by name.

        The values are functions: a list of which one row is wanted makes none of the others.
        """
        for spec in self._catalog.values():
            if not spec.known(self._facts) or (scope is Scope.GLOBAL and spec.validity is Validity.SESSION):
                continue
            yield spec.name, lambda spec=spec: self._shown(spec, scope)  # type: ignore[misc]

    def checked(self, name: str, value: Value) -> dict[str, Value]:
        """What ``SET SESSION name = value`` changes; nothing changes yet. Refusal 1193, 1231, 1238, 1621…

        A number out of range becomes the nearest in it, with a warning.
        """
        spec = self._settable(name)
        assert spec.check is not None
        accepted = spec.check(spec.name, value)
        if spec.kind is VariableKind.INT and accepted != value:
            self.warnings.append(Diagnostic("Warning", 1292, f"Truncated incorrect {spec.name} value: '{value}'"))
        changes: dict[str, Value] = {spec.name: accepted}
        if spec.name in _PAIRS and isinstance(accepted, str):
            changes[_PAIRS[spec.name]] = CHARSETS[accepted]
        if spec.name in _PAIRED_BACK and isinstance(accepted, str):
            changes[_PAIRED_BACK[spec.name]] = charset_of_collation(accepted)
        return changes

    def default(self, name: str) -> dict[str, Value]:
        """What ``SET SESSION name = DEFAULT`` changes: it takes the global value. Refusal as ``checked``."""
        spec = self._settable(name)
        names = [spec.name, *(pairs[spec.name] for pairs in (_PAIRS, _PAIRED_BACK) if spec.name in pairs)]
        return {each: self._catalog[each].read(self._facts, self._session) for each in names}

    def names(self, charset: str | None, collation: str | None) -> dict[str, Value]:
        """What ``SET NAMES charset COLLATE collation`` changes; None for DEFAULT. Refusal 1115, 1231…"""
        chosen = client_charset(charset or DEFAULT_CHARSET)
        return {
            "character_set_client": chosen,
            "character_set_connection": chosen,
            "character_set_results": chosen,
            "collation_connection": collation_for(chosen, collation),
        }

    def character_set(self, charset: str | None) -> dict[str, Value]:
        """What ``SET CHARACTER SET`` changes: as SET NAMES, but the connection's is the database's."""
        chosen = client_charset(charset or DEFAULT_CHARSET)
        return {
            "character_set_client": chosen,
            "character_set_results": chosen,
            "character_set_connection": self.read("character_set_database"),
            "collation_connection": self.read("collation_database"),
        }

    def refuse_global(self, name: str) -> None:
        """SET GLOBAL: no variable here may change while binlogd runs. Refusal 1193, 1228, 1238."""
        spec = self._known(name)
        raise not_for_set_global(name) if spec.validity is Validity.SESSION else wrong_scope(name, "read only")

    def _known(self, name: str) -> VariableSpec:
        spec = self._catalog.get(name.lower())
        if spec is None or not spec.known(self._facts):
            raise unknown_variable(name)
        return spec

    def _settable(self, name: str) -> VariableSpec:
        spec = self._known(name)
        if spec.session_locked:
            raise session_value_is_read_only(name)
        if spec.check is None:
            raise wrong_scope(name, "read only")
        return spec

    def _value(self, spec: VariableSpec, scope: Scope) -> Value:
        if scope is Scope.SESSION and spec.name in self._session.variables:
            return self._session.variables[spec.name]
        return spec.read(self._facts, self._session)

    def _shown(self, spec: VariableSpec, scope: Scope) -> str:
        value = self._value(spec, scope)
        if spec.kind is VariableKind.BOOL:
            return "ON" if value else "OFF"
        return as_text(value) or ""
