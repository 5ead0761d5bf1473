"""Fills tables from the log, whatever is left of them: the live ones, or those of a moment in a schema of their own."""

from __future__ import annotations

from collections.abc import Mapping

from diurna_projections.records import WITH_GAPS
from diurna_projections.store import Checksums, Store
from diurna_projections.store.database import SCHEMA
from diurna_projections.store.generations import claim, create_database, heads_to_go_on_from
from diurna_projections.store.moves import Place
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Conflict
from diurna_schemas.ids import Position
from diurna_streams.decide.follower import Learn
from diurna_streams.log.port import Log
from diurna_streams.project.places import partitions_of
from diurna_streams.project.understand import Understanding
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.rebuild import Replay


async def recover(
    log: Log,
    database_url: str,
    codec: Codec,
    learn: Learn | None,
    *,
    schema: str = SCHEMA,
    progress: Progress | None = None,
    since: Mapping[Place, int] | None = None,
    until: Mapping[Place, int] | None = None,
) -> Checksums:
    """Fills the tables to the end of the log, or to exactly the offsets of `until`; no schema or database is needed.

    Where to go on is what the tables say themselves; `since` is what they must hold everything before. Raises
    `Conflict`, and changes nothing, where they do not, where they stand behind `until`, or where the schema is somebody
    else's; `InvalidInput` for a schema that is another generation's.
    """
    partitions = await partitions_of(log)
    if not any((since or {}).values()):
        await create_database(database_url)
    store = await Store.connect(database_url, schema=schema)
    try:
        heads = await heads_to_go_on_from(store)
        _check_reached(heads, since or {})
        if until is not None:
            _check_not_passed(heads, until)
        if schema != SCHEMA:
            await claim(store)
            await store.migrate()  # here tables of another version are refused, and not thrown away
        replay = Replay(log, store, store, Understanding(codec, learn), partitions)
        return await replay.rebuild(progress or Progress(), until=until)
    finally:
        await store.close()


def _check_reached(heads: Mapping[Place, Head], since: Mapping[Place, int]) -> None:
    for place, offset in sorted(since.items()):
        stands = heads.get(place, Head()).next_offset
        if stands < offset and place[0] not in WITH_GAPS:
            raise Conflict(
                f"the tables end before {Position(*place, stands)}, and not where they are to go on, "
                f"{Position(*place, offset)}: what is between would be missing"
            )


def _check_not_passed(heads: Mapping[Place, Head], until: Mapping[Place, int]) -> None:
    for place, head in sorted(heads.items()):
        if head.next_offset > until.get(place, head.next_offset):
            raise Conflict(
                f"the tables hold {Position(*place, head.next_offset - 1)} already, and are to end before "
                f"{Position(*place, until[place])}: nothing is taken out of tables, name another schema"
            )
