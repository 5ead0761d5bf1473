"""Makes the tables anew beside the live ones, compares the two at equal positions, and exchanges them.

Nothing is written to the log: that a record cannot be read was written down by the live projector.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from diurna_projections.records import WITH_GAPS
from diurna_projections.store import Checksums, Store
from diurna_projections.store.database import SCHEMA
from diurna_projections.store.generations import (
    exchange,
    generations,
    keep_again,
    next_of,
    take_back,
)
from diurna_projections.store.moves import Place
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Conflict, Unavailable
from diurna_schemas.ids import Position
from diurna_streams.decide.follower import Learn
from diurna_streams.log.port import Log, TopicPartition
from diurna_streams.project.bulk import catch_up, fill, project_to
from diurna_streams.project.hands import hands
from diurna_streams.project.places import partitions_of, places_of
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer
from diurna_streams.replay.progress import Progress

_LIVE_SECONDS_MAX: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Comparison:
    """The hash of each table here and there, once both hold exactly the records before these positions."""

    next: Mapping[Place, int]
    live: Mapping[str, str]
    made: Mapping[str, str]

    @property
    def different(self) -> list[str]:
        """The tables that are not equal."""
        return [name for name, digest in self.live.items() if self.made.get(name) != digest]

    @property
    def positions(self) -> list[Position]:
        """The last record of each partition that is in both."""
        return [Position(*place, offset - 1) for place, offset in sorted(self.next.items()) if offset > 0]


class Replay:
    """A log and a database, and what can be done with the two. Open it with `opened`."""

    def __init__(
        self, log: Log, live: Store, made: Store, understanding: Understanding, partitions: list[TopicPartition]
    ) -> None:
        self._log = log
        self._live = live
        self._made = made
        self._understanding = understanding
        self._partitions = partitions

    @property
    def schema(self) -> str:
        """Where the tables are made."""
        return self._made.database.schema

    async def standing(self) -> Checksums:
        """The live tables as they are."""
        return await self._live.checksums()

    async def rebuild(
        self, progress: Progress, *, until: Mapping[Place, int] | None = None, is_anew: bool = False
    ) -> Checksums:
        """Makes the next generation up to where the log ends now, or to exactly the offsets of `until`.

        It goes on where an earlier rebuild broke off, or with `is_anew` throws away what that one left.
        """
        if is_anew:
            await self._made.drop()
        await self._migrated()
        if until is not None:
            ends = {TopicPartition(*place): offset for place, offset in until.items()}
            progress.expect((await places_of(self._log, self._made, list(ends))).until(ends).lag)
            await fill(ends, self._log, self._writer(), told=progress.advance, processes=hands())
            return await self._made.checksums()
        places = await places_of(self._log, self._made, self._partitions)
        progress.expect(places.lag)
        await catch_up(
            self._log,
            self._writer(),
            self._partitions,
            hand_over_lag_records=0,
            until=places.ends,
            told=progress.advance,
            processes=hands(),
        )
        return await self._made.checksums()

    async def verify(self, progress: Progress) -> Comparison:
        """Brings the next generation to exactly where the live tables stand, and compares.

        Raises `Conflict` where there is none, `Unavailable` where the live tables stand still behind the next ones.
        """
        if self.schema not in await generations(self._live):
            raise Conflict(f"there is no schema {self.schema} to compare with: rebuild the tables first")
        mine = await self._made.heads()
        sums = await self._live_at_least(mine)
        await self._to(sums.next, progress)
        made = await self._made.checksums()
        for place, offset in sums.next.items():
            if place[0] not in WITH_GAPS and made.next.get(place, 0) != offset:
                raise Conflict(f"{self.schema} did not come to where the live tables stand, {offset} of {place}")
        return Comparison(sums.next, sums.tables, made.tables)

    async def promote(self, progress: Progress, *, even_different: bool = False) -> Comparison:
        """Compares, and puts the next generation in the live one's place; the live one is kept.

        Raises `Conflict`, and changes nothing, where a table is different, unless that is what it is done for.
        """
        try:
            return await self._promoted(progress, even_different=even_different)
        except Unavailable as error:
            if self.schema in await generations(self._live):
                raise
            raise Conflict(f"not promoted: {self.schema} is gone, another has promoted or dropped it") from error

    async def roll_back(self, progress: Progress, *, even_different: bool = False) -> Comparison:
        """Puts the generation that was kept in the live one's place again; raises as `promote` does, and keeps it."""
        await take_back(self._live)
        try:
            return await self.promote(progress, even_different=even_different)
        except BaseException:
            await keep_again(self._live)
            raise

    async def _promoted(self, progress: Progress, *, even_different: bool) -> Comparison:
        found = await self.verify(progress)
        if found.different and not even_different:
            raise Conflict(f"not promoted: {', '.join(found.different)} differ from the live tables")

        async def deliver(heads: Mapping[Place, Head]) -> None:
            await self._to({place: head.next_offset for place, head in heads.items()}, progress)

        await exchange(self._live, self._made, deliver)
        return found

    async def _to(self, following: Mapping[Place, int], progress: Progress) -> None:
        ends = {TopicPartition(*place): offset for place, offset in following.items()}
        places = (await places_of(self._log, self._made, list(ends))).until(ends)
        progress.expect(places.lag)
        await project_to(ends, self._log, self._writer(), told=progress.advance)

    def _writer(self) -> Writer:
        """One that believes nothing: another generation may have come in the place of the one the last one knew."""
        return Writer(Store(self._made.database), self._understanding)

    async def _migrated(self) -> None:
        """The tables of today; those another version has begun are thrown away."""
        try:
            await self._made.migrate()
        except Conflict:
            await self._made.drop()
            await self._made.migrate()

    async def _live_at_least(self, heads: Mapping[Place, Head]) -> Checksums:
        deadline = time.monotonic() + _LIVE_SECONDS_MAX
        while True:
            live = await self._live.heads()
            behind = [place for place, head in heads.items() if live.get(place, Head()).next_offset < head.next_offset]
            if not behind:
                return await self._live.checksums()
            if time.monotonic() > deadline:
                topic, partition = behind[0]
                raise Unavailable(f"the live tables stand still behind the next ones, at {topic}:{partition}")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


@asynccontextmanager
async def opened(
    log: Log, database_url: str, codec: Codec, learn: Learn | None, *, schema: str = SCHEMA
) -> AsyncGenerator[Replay]:
    """The live tables in `schema`, and the next ones beside them."""
    partitions = await partitions_of(log)
    live = await Store.connect(database_url, schema=schema)
    try:
        following = await Store.connect(database_url, schema=next_of(schema))
        try:
            yield Replay(log, live, following, Understanding(codec, learn), partitions)
        finally:
            await following.close()
    finally:
        await live.close()
