"""The tables in Postgres: the one place that speaks to it."""

from diurna_projections.store.checksums import Checksums
from diurna_projections.store.database import Database
from diurna_projections.store.store import Applied, DeadLetterSink, PartitionPosition, Store
from diurna_projections.store.threads import StoredThreads

__all__ = ["Applied", "Checksums", "Database", "DeadLetterSink", "PartitionPosition", "Store", "StoredThreads"]
