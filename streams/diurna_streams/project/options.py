"""How a projector is set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from diurna_projections.store.database import SCHEMA

BULK_LAG_RECORDS: Final = 10_000
"""Further behind than this the bulk path is quicker, for all that it costs to change over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorOptions:
    """`bootstrap_servers` is `host:port`, several joined by commas. `member` makes a restart keep its partitions.

    `stalled_ms`: so long may the positions stand still while records are waiting, before the process gives itself up.
    """

    bootstrap_servers: str
    database_url: str
    schema: str = SCHEMA
    group: str = "diurna-projector"
    member: str | None = None
    metrics_port: int | None = None
    batch_records_max: int = 500
    bulk_lag_records: int = BULK_LAG_RECORDS
    watch_interval_ms: int = 1_000
    stalled_ms: int = 30_000
