"""Tables as dictionaries: what a fold works on, all rows of them in memory or those a batch touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, cast

from diurna_projections import rows
from diurna_projections.rows import Key, Row, Table


class Rows(Generic[Row]):
    """The rows of one table as far as they are known, and which of them changed since they were loaded."""

    def __init__(self, table: Table[Row]) -> None:
        self.table = table
        self.changed: dict[Key, Row | None] = {}
        self._rows: dict[Key, Row] = {}
        self._groups: dict[Any, dict[Key, Row]] | None = {} if table.key_columns == 2 else None

    def get(self, *key: Any) -> Row | None:
        """The row with this key."""
        return self._rows.get(key)

    def group(self, first: Any) -> list[Row]:
        """All rows whose key begins with `first`, in order of their keys."""
        group = (self._groups or {}).get(first, {})
        return [group[key] for key in sorted(group)]

    def put(self, row: Row) -> None:
        """Writes a row."""
        key = row[: self.table.key_columns]
        self.changed[key] = row
        self._keep(key, row)

    def remove(self, *key: Any) -> None:
        """Takes a row away, where it is there."""
        if self._rows.pop(key, None) is not None:
            self.changed[key] = None
            if self._groups is not None:
                self._groups[key[0]].pop(key)

    def load(self, found: Iterable[Row]) -> None:
        """Makes stored rows known: no change."""
        for row in found:
            self._keep(row[: self.table.key_columns], row)

    def __iter__(self) -> Iterator[Row]:
        """All known rows, in order of their keys."""
        return iter([self._rows[key] for key in sorted(self._rows)])

    def __len__(self) -> int:
        return len(self._rows)

    def _keep(self, key: Key, row: Row) -> None:
        self._rows[key] = row
        if self._groups is not None:
            self._groups.setdefault(key[0], {})[key] = row


class Tables:
    """All tables."""

    def __init__(self) -> None:
        self.agents = Rows(rows.AGENTS)
        self.agent_instances = Rows(rows.AGENT_INSTANCES)
        self.capabilities = Rows(rows.CAPABILITIES)
        self.requests = Rows(rows.REQUESTS)
        self.workflows = Rows(rows.WORKFLOWS)
        self.approvals = Rows(rows.APPROVALS)
        self.heartbeats = Rows(rows.HEARTBEATS)
        self.dead_letters = Rows(rows.DEAD_LETTERS)
        self.events = Rows(rows.EVENTS)

    def of(self, table: Table[Row]) -> Rows[Row]:
        """The rows of a table."""
        return cast("Rows[Row]", getattr(self, table.name))

    def __iter__(self) -> Iterator[Rows[Any]]:
        return iter([self.of(table) for table in rows.TABLES])
