"""How a long way from the log to the tables is shared out among processes."""

from __future__ import annotations

from diurna_projections.records import WITH_GAPS
from diurna_schemas.topics import TOPICS
from diurna_streams.log.memory import MemoryLog
from diurna_streams.log.port import TopicPartition
from diurna_streams.project.hands import shares_of
from diurna_streams.project.places import Places, partitions_of


async def places() -> Places:
    log = MemoryLog()
    await log.provision(TOPICS.values())
    partitions = await partitions_of(log)
    return Places(dict.fromkeys(partitions, 0), {place: 100 + number for number, place in enumerate(partitions)})


async def test_every_partition_that_may_be_shared_out_is_in_one_share() -> None:
    whole = await places()
    shares = shares_of(whole, 3)
    shared = [place for share in shares for place in share]
    assert len(shares) == 3
    assert len(shared) == len(set(shared))
    assert set(shared) == {place for place in whole.next if place.topic not in WITH_GAPS}


async def test_shares_have_about_as_many_records_each() -> None:
    whole = await places()
    sizes = [sum(map(whole.lag_of, share)) for share in shares_of(whole, 4)]
    assert max(sizes) - min(sizes) <= max(whole.ends.values())


async def test_what_is_not_behind_is_in_no_share() -> None:
    whole = await places()
    place = TopicPartition("workflows.events", 5)
    assert shares_of(Places(whole.ends, whole.ends), 2) == []
    assert shares_of(Places(whole.ends | {place: 0}, whole.ends), 2) == [[place]]
    assert shares_of(whole, 0) == []
