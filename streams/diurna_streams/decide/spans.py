"""What a decider tells of the commands it has decided, to whoever follows them from process to process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diurna_schemas.envelope import header
from diurna_streams import tracing
from diurna_streams.log import Record


def tell(family: str, records: Sequence[Record], began_ns: int) -> None:
    """A span for each command that belongs to a trace: from when it was read to when its events were durable."""
    tracing.tell(f"decide {family}", "consumer", began_ns, _steps(records))


def _steps(records: Sequence[Record]) -> Iterator[tuple[str, tracing.Attributes]]:
    for record in records:
        parent = header(record.headers, tracing.TRACEPARENT)
        if parent is not None:
            yield (
                parent,
                {
                    "messaging.system": "kafka",
                    "messaging.destination.name": record.topic,
                    "diurna.command": header(record.headers, "ce_type") or "unknown",
                    "diurna.correlation_id": header(record.headers, "correlationid") or "",
                    "diurna.position": str(record.position),
                },
            )
