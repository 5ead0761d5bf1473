"""Decodes records, asking the schema registry for ids it does not know before it calls a record unreadable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from diurna_projections.advance import understood
from diurna_projections.records import LogRecord, Reading
from diurna_schemas.codec import Codec
from diurna_schemas.errors import UnknownSchema, Unreadable
from diurna_streams.decide.follower import Learn

_UNKNOWN_MAX: Final = 1_000
"""So many ids are remembered as unknown: broken records can carry any number."""
_UNKNOWN_SECONDS: Final = 10.0


class Understanding:
    """A codec that learns."""

    def __init__(self, codec: Codec, learn: Learn | None) -> None:
        self._codec = codec
        self._learn = learn
        self._unknown: dict[int, float] = {}

    @property
    def schema_ids(self) -> dict[str, int]:
        """The schema id of each record of ours."""
        return self._codec.ids

    async def read(self, records: Sequence[LogRecord]) -> list[Reading]:
        """Decodes the records. Raises `Unavailable` where the registry has to be asked and does not answer."""
        readings = understood(self._codec, records)
        if self._learn is None:
            return readings
        unknown = {reading.content.schema_id for reading in readings if isinstance(reading.content, UnknownSchema)}
        learned = [await self._learned(schema_id, self._learn) for schema_id in sorted(unknown)]
        return understood(self._codec, records) if any(learned) else readings

    async def _learned(self, schema_id: int, learn: Learn) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._unknown.get(schema_id, -_UNKNOWN_SECONDS) < _UNKNOWN_SECONDS:
            return False
        try:
            await learn(schema_id)
        except Unreadable:  # nobody knows it, or it is the schema of something that is not ours
            if len(self._unknown) >= _UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[schema_id] = now
            return False
        return True
