"""Tables as dictionaries: what a fold works on, all rows of them in memory or those a batch touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, cast

from diurna_projections import rows
from diurna_projections.logged import row_of
from diurna_projections.records import LogRecord
from diurna_projections.rows import Key, LoggedEvent, Row, Table
from diurna_schemas.message import Part

Need = tuple[str, *tuple[Any, ...]]
"""The name of a table and the values of its key, or the first of them: rows a fold will look at."""
Folds = dict[type[Part], Callable[["Tables", Any, LogRecord], None]]
"""How each kind of record is folded."""
Needs = dict[type[Part], Callable[[Any], tuple[Need, ...]]]
"""What folding each kind of record will look at; a kind that looks at nothing is left out."""


class Rows(Generic[Row]):
    """The rows of one table as far as they are known, and which of them changed since they were loaded."""

    def __init__(self, table: Table[Row]) -> None:
        self.table = table
        self._key_columns = table.key_columns
        self.changed: dict[Key, Row | None] = {}
        self._rows: dict[Key, Row] = {}
        self._groups: dict[Any, dict[Key, Row]] | None = {} if table.is_grouped else None

    def get(self, *key: Any) -> Row | None:
        """The row with this key."""
        return self._rows.get(key)

    def group(self, first: Any) -> list[Row]:
        """All rows whose key begins with `first`, in order of their keys."""
        if self._groups is None:
            raise TypeError(f"rows of {self.table.name} are not grouped: say so where the table is named")
        group = self._groups.get(first, {})
        return [group[key] for key in sorted(group)]

    def put(self, row: Row) -> None:
        """Writes a row."""
        key = row[: self._key_columns]
        self.changed[key] = row
        self._keep(key, row)

    def remove(self, *key: Any) -> None:
        """Takes a row away, where it is there."""
        if self._rows.pop(key, None) is not None:
            self.changed[key] = None
            if self._groups is not None:
                self._groups[key[0]].pop(key)

    def erase(self, *key: Any) -> None:
        """Takes a row away that need not be known."""
        self._rows.pop(key, None)
        self.changed[key] = None
        if self._groups is not None:
            self._groups.get(key[0], {}).pop(key, None)

    def load(self, found: Iterable[Row]) -> None:
        """Makes stored rows known: no change."""
        for row in found:
            self._keep(row[: self._key_columns], row)

    def _keep(self, key: Key, row: Row) -> None:
        self._rows[key] = row
        if self._groups is not None:
            self._groups.setdefault(key[0], {})[key] = row

    def __iter__(self) -> Iterator[Row]:
        """All known rows, in order of their keys."""
        return iter([self._rows[key] for key in sorted(self._rows)])

    def __len__(self) -> int:
        return len(self._rows)


class Logged:
    """The table of events, as the records it is made of: rows are only ever added, and nothing looks them up."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def add(self, record: LogRecord) -> None:
        """Adds an accepted record."""
        self.records.append(record)

    def __iter__(self) -> Iterator[LoggedEvent]:
        """All rows, in order of their keys."""
        return iter(sorted(map(row_of, self.records)))

    def __len__(self) -> int:
        return len(self.records)


class Tables:
    """All tables."""

    def __init__(self) -> None:
        self.agents = Rows(rows.AGENTS)
        self.agent_instances = Rows(rows.AGENT_INSTANCES)
        self.capabilities = Rows(rows.CAPABILITIES)
        self.requests = Rows(rows.REQUESTS)
        self.workflows = Rows(rows.WORKFLOWS)
        self.approvals = Rows(rows.APPROVALS)
        self.workflow_checkpoints = Rows(rows.WORKFLOW_CHECKPOINTS)
        self.locks = Rows(rows.LOCKS)
        self.lock_waiters = Rows(rows.LOCK_WAITERS)
        self.lock_history = Rows(rows.LOCK_HISTORY)
        self.lock_statistics = Rows(rows.LOCK_STATISTICS)
        self.checkpoint_threads = Rows(rows.CHECKPOINT_THREADS)
        self.checkpoint_damages = Rows(rows.CHECKPOINT_DAMAGES)
        self.checkpoints = Rows(rows.CHECKPOINTS)
        self.checkpoint_blobs = Rows(rows.CHECKPOINT_BLOBS)
        self.checkpoint_writes = Rows(rows.CHECKPOINT_WRITES)
        self.checkpoint_chunks = Rows(rows.CHECKPOINT_CHUNKS)
        self.heartbeats = Rows(rows.HEARTBEATS)
        self.dead_letters = Rows(rows.DEAD_LETTERS)
        self.dead_letter_settlements = Rows(rows.DEAD_LETTER_SETTLEMENTS)
        self.events = Logged()

    def of(self, table: Table[Row]) -> Iterable[Row]:
        """The rows of a table, in order of their keys."""
        return cast("Iterable[Row]", getattr(self, table.name))

    def keyed(self) -> list[Rows[Any]]:
        """Every table whose rows can change."""
        return [getattr(self, table.name) for table in rows.TABLES if table is not rows.EVENTS]

    def settle(self) -> None:
        """What was changed is kept somewhere now."""
        self.events.records.clear()
        for keyed in self.keyed():
            keyed.changed.clear()
