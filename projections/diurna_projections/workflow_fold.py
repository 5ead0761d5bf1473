"""Any past version of a workflow, folded from its events alone, by the folds that make the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diurna_projections.documents import Row
from diurna_projections.folds import workflows
from diurna_projections.rows import WORKFLOWS, Table, Workflow
from diurna_projections.stored import stored
from diurna_projections.tables import Tables
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Unreadable


@dataclass(frozen=True, slots=True)
class _Place:
    """A record as far as a fold of workflows looks at it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class WorkflowFold:
    """Takes the events of one workflow, in order, as the table of events holds them."""

    def __init__(self, workflow_id: str, codec: Codec) -> None:
        self._workflow_id = workflow_id
        self._codec = codec
        self._tables = Tables()

    def up_to(self, events: Iterable[Row], version: int) -> Workflow | None:
        """The workflow once these events have brought it to a version; none while they have not."""
        for row in events:
            try:
                event = self._codec.decode(row["value"])
                place = _Place(row["topic"], row["partition"], row["record_offset"], row["at_ms"])
                workflows.fold(self._tables, event, place)
            except Unreadable:
                continue  # a dead letter: it changed no table either
            found = self._tables.workflows.get(self._workflow_id)
            if found is not None and found.version == version:
                return found
        return None


def as_stored(table: Table[Any], row: tuple[Any, ...]) -> Mapping[str, Any]:
    """A row in memory as its table would give it, by column name."""
    return dict(zip(table.columns, stored(table, row), strict=True))


def stored_workflow(row: Workflow) -> Mapping[str, Any]:
    """A workflow in memory as the table would give it."""
    return as_stored(WORKFLOWS, row)
