"""Logs for the schema registry that misbehave as brokers do: late writes, lost acknowledgements, compaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from diurna_schemas.errors import Unavailable
from diurna_streams.schema_registry.model import Entry, State, evolve
from diurna_streams.schema_registry.store import SchemaLog, Written


class SharedRecords:
    """One log's records, for any number of `SharedLog`s."""

    def __init__(self, records: Sequence[Written] = (), *, clock_ms: Callable[[], int] = lambda: 0) -> None:
        self.records = list(records)
        self.clock_ms = clock_ms
        self.grown = asyncio.Event()

    def append(self, entries: Sequence[Entry]) -> int:
        first = self.records[-1].offset + 1 if self.records else 0
        for offset, entry in enumerate(entries, start=first):
            self.records.append(Written(offset, self.clock_ms(), entry))
        self.grown.set()
        self.grown = asyncio.Event()
        return first

    def compacted(self) -> SharedRecords:
        """What a broker's cleaner may leave: the last record of each key, no tombstones, the newest record always."""
        last = {one.entry.key: one.offset for one in self.records}
        kept = [
            one
            for one in self.records
            if one is self.records[-1] or (last[one.entry.key] == one.offset and one.entry.value is not None)
        ]
        return SharedRecords(kept, clock_ms=self.clock_ms)

    def folded(self) -> State:
        state = State()
        for one in self.records:
            state, _ = evolve(state, one.entry, at_ms=one.timestamp_ms)
        return state


class SharedLog(SchemaLog):
    """A view of shared records. `delays` says how many turns of the loop each write takes to get there."""

    def __init__(self, shared: SharedRecords, *, delays: Sequence[int] = ()) -> None:
        self._shared = shared
        self._delays = list(delays)
        self._next = 0
        self.is_acknowledging = True

    async def start(self) -> int:
        self._next = self._shared.records[0].offset if self._shared.records else 0
        return self._next

    async def append(self, entries: Sequence[Entry]) -> int:
        for _ in range(self._delays.pop() if self._delays else 0):
            await asyncio.sleep(0)
        first = self._shared.append(entries)
        if not self.is_acknowledging:
            raise Unavailable("the acknowledgement was lost")
        return first

    async def read(self, *, wait_ms: int) -> list[Written]:
        found = self._new()
        if not found:
            grown = self._shared.grown
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await grown.wait()
            except TimeoutError:
                return []
            found = self._new()
        return found

    async def end(self) -> int:
        return self._shared.records[-1].offset + 1 if self._shared.records else 0

    async def close(self) -> None:
        return

    def _new(self) -> list[Written]:
        found = [one for one in self._shared.records if one.offset >= self._next]
        if found:
            self._next = found[-1].offset + 1
        return found
