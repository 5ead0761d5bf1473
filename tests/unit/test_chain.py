"""The envelope and the chain: links that round-trip, hashes that notice everything, one history for all readers."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas.agents import AgentRequest, RequestSubmitted, SubmitRequest
from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.envelope import (
    GENESIS,
    Headers,
    Link,
    chain_hash,
    cloud_event,
    command_headers,
    event_headers,
    event_id,
    header,
    iso,
    link_of,
)
from diurna_schemas.errors import BrokenChain, Unreadable

REQUEST = AgentRequest(
    request_id="request-1",
    source_agent="orchestrator",
    target_agent="cicd",
    request_type="run_tests",
    correlation_id="work-7",
    created_at_ms=1_790_000_000_000,
)
SUBMITTED = RequestSubmitted(
    command_id="command-1", at_ms=1_790_000_000_123, agent_id="cicd", request=REQUEST, deadline_ms=1_790_000_030_123
)
HASHES = st.text("0123456789abcdef", min_size=32, max_size=32)
LINKS = st.builds(Link, st.integers(1, 2**9), st.integers(0, 2**43), st.integers(0, 10_000), HASHES, HASHES)


def headers_of(link: Link) -> Headers:
    return event_headers(SUBMITTED, link, partition=3, correlation_id=None, traceparent=None)


def test_an_event_has_the_attributes_of_a_cloud_event_in_binary_mode() -> None:
    link = Link(1, 42, 0, GENESIS, "a" * 32)
    found = dict(event_headers(SUBMITTED, link, partition=3, correlation_id="work-7", traceparent="00-aa-bb-01"))
    assert found == {
        "ce_specversion": b"1.0",
        "ce_id": event_id("agents.events", 1, 3, 42, 0).encode(),
        "ce_type": b"request.submitted",
        "ce_source": b"/deciders/agents.events/3",
        "ce_subject": b"request-1",
        "ce_time": b"2026-09-21T14:13:20.123Z",
        "content-type": b"application/avro",
        "correlationid": b"work-7",
        "causationid": b"command-1",
        "traceparent": b"00-aa-bb-01",
        "chain_at": b"1.42.0",
        "chain_previous": GENESIS.encode(),
        "chain_hash": b"a" * 32,
    }


@pytest.mark.parametrize(("of_the_command", "is_there"), [("work-7", True), (None, True), ("other", False)])
def test_an_event_of_other_work_than_its_command_is_not_in_its_trace(
    of_the_command: str | None, is_there: bool
) -> None:
    link = Link(1, 42, 0, GENESIS, "a" * 32)
    found = event_headers(SUBMITTED, link, partition=3, correlation_id=of_the_command, traceparent="00-aa-bb-01")
    assert header(found, "correlationid") == "work-7"
    assert (header(found, "traceparent") is not None) == is_there


def test_a_command_is_its_own_event_id_and_names_its_work() -> None:
    command = SubmitRequest(command_id="command-1", agent_id="cicd", request=REQUEST)
    headers = command_headers(
        command, command_id="command-1", source="/agents/orchestrator", at_ms=0, correlation_id=None, traceparent=None
    )
    assert header(headers, "ce_id") == "command-1"
    assert header(headers, "ce_type") == "request.submit"
    assert header(headers, "correlationid") == "work-7"
    assert header(headers, "ce_time") == "1970-01-01T00:00:00.000Z"
    assert header(headers, "traceparent") is None


@given(at_ms=st.integers(0, 4_000_000_000_000))
def test_times_are_written_to_the_millisecond(at_ms: int) -> None:
    assert round(datetime.fromisoformat(iso(at_ms)).timestamp() * 1000) == at_ms


def test_an_event_has_the_same_id_whoever_writes_it_and_another_at_every_other_place() -> None:
    places = [(topic, 1 + i, p, o, x) for topic in ("agents.events", "locks.events") for i in range(2) for p in range(3)
              for o in (0, 1, 11) for x in (0, 1, 11)]  # fmt: skip
    ids = {event_id(*place) for place in places}
    assert len(ids) == len(places)
    assert event_id("agents.events", 1, 3, 42, 0) == "be1510b5-2fd9-5f3c-a1d4-b576aa5deb84", "ids are for ever"


@given(link=LINKS)
def test_a_link_is_read_as_it_is_written(link: Link) -> None:
    assert link_of(headers_of(link)) == link


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chain_at", b""), ("chain_at", b"1.2"), ("chain_at", b"1.2.3.4"), ("chain_at", b"1.-2.3"),
        ("chain_at", b"1.x.3"), ("chain_at", b"1." + b"9" * 5_000 + b".0"), ("chain_at", "1.².3".encode()),
        ("chain_previous", b""), ("chain_previous", b"\xff" * 32), ("chain_previous", b"a" * 31),
        ("chain_hash", b""), ("chain_hash", b"\xc3\x28" * 16), ("chain_hash", b"A" * 32),
    ],
)  # fmt: skip
def test_headers_without_a_whole_link_are_a_broken_chain(name: str, value: bytes) -> None:
    headers = tuple((key, value if key == name else old) for key, old in headers_of(Link(1, 2, 3, "a" * 32, "b" * 32)))
    with pytest.raises(BrokenChain) as broken:
        link_of(headers)
    assert len(str(broken.value)) < 300


@settings(max_examples=200)
@given(
    headers=st.lists(
        st.tuples(st.sampled_from(["chain_at", "chain_previous", "chain_hash", "ce_id"]), st.binary(max_size=40)),
        max_size=5,
    )
)
def test_any_headers_at_all_give_a_link_or_a_broken_chain(headers: list[tuple[str, bytes]]) -> None:
    try:
        link = link_of(headers)
    except BrokenChain:
        return
    assert link_of(headers) == link


def test_a_header_that_is_no_text_is_read_with_replacements() -> None:
    assert header((("correlationid", b"\xff\xfe"),), "correlationid") == "\ufffd\ufffd"


BASE = {"previous": "a" * 32, "at": "1.42.0", "type_name": "request.submitted", "key": b"cicd", "value": b"\0\0\0\0\1x"}


@pytest.mark.parametrize(
    ("name", "other"),
    [("previous", "b" + "a" * 31), ("at", "1.42.1"), ("type_name", "request.completed"), ("key", b"cice"),
     ("value", b"\0\0\0\0\1y")],
)  # fmt: skip
def test_the_hash_changes_with_every_input(name: str, other: str | bytes) -> None:
    assert chain_hash(**BASE) != chain_hash(**{**BASE, name: other})  # type: ignore[arg-type]
    assert chain_hash(**BASE) == chain_hash(**BASE)  # type: ignore[arg-type]


def test_the_hash_does_not_confuse_where_one_part_ends_and_the_next_begins() -> None:
    assert chain_hash("a", "1.1.0", "t", b"k", b"v") != chain_hash("a1", ".1.0", "t", b"k", b"v")
    assert chain_hash("a", "1.1.0", "t", b"k", b"v") != chain_hash("a", "1.1.0", "t", b"kv", b"")


def chain(count: int, previous: str = GENESIS, first: int = 0, salt: str = "") -> list[Link]:
    links: list[Link] = []
    for number in range(first, first + count):
        digest = chain_hash(previous, f"1.{number}.0", "t", b"k", f"{salt}{number}".encode())
        links.append(Link(1, number, 0, previous, digest))
        previous = digest
    return links


def verdicts(links: list[Link], head: Head | None) -> tuple[list[Verdict], Acceptor]:
    acceptor = Acceptor(head)
    return [acceptor.accept(offset, headers_of(link)) for offset, link in enumerate(links)], acceptor


def test_a_chain_is_accepted_and_its_copy_is_a_duplicate() -> None:
    links = chain(5)
    found, acceptor = verdicts([*links, *links], Head())
    assert found == [Verdict.ACCEPTED] * 5 + [Verdict.DUPLICATE] * 5
    assert (acceptor.head.hash, acceptor.head.next_offset, acceptor.duplicates) == (links[-1].hash, 10, 5)


def test_a_zombies_event_is_alien_and_so_is_everything_that_follows_it() -> None:
    links = chain(5)
    zombie = chain(3, previous=links[2].hash, first=10, salt="zombie")
    found, acceptor = verdicts([*links[:4], *zombie, links[4]], Head())
    assert found == [Verdict.ACCEPTED] * 4 + [Verdict.ALIEN] * 3 + [Verdict.ACCEPTED]
    assert acceptor.aliens == 3


def test_a_gap_is_alien_even_where_the_place_is_larger() -> None:
    links = chain(5)
    assert verdicts([links[0], links[2]], Head())[0] == [Verdict.ACCEPTED, Verdict.ALIEN]


def test_events_of_an_earlier_incarnation_are_duplicates() -> None:
    later = Link(2, 0, 0, GENESIS, "c" * 32)
    found, _ = verdicts([later, *chain(2)], Head())
    assert found == [Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.DUPLICATE]


def test_a_reader_without_an_anchor_believes_the_first_event_only() -> None:
    links = chain(6)
    stranger = Link(1, 99, 0, "d" * 32, "e" * 32)
    assert verdicts([links[3], links[4], stranger], None)[0] == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ALIEN]


def test_a_record_without_a_link_is_alien_and_passed_over() -> None:
    acceptor = Acceptor(Head())
    assert acceptor.accept(0, cloud_event(id="x", type_name="t", source="/s", subject="s", at_ms=0)) is Verdict.ALIEN
    assert acceptor.head == replace(Head(), next_offset=1)
    assert issubclass(BrokenChain, Unreadable)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), readers=st.integers(2, 4))
def test_all_readers_accept_the_same_single_history_however_owners_mix(seed: int, readers: int) -> None:
    """Owners that hold the same chain, or forks of it, write in any interleaving; readers start anywhere."""
    chance = random.Random(seed)
    honest = chain(20)
    forks = [chain(5, previous=honest[at].hash, first=at + 1, salt=f"fork-{at}") for at in (3, 9, 15)]
    writers = [list(honest), list(honest[chance.randrange(20) :]), *forks]
    log: list[Link] = []
    while any(writers):
        log.append(chance.choice([writer for writer in writers if writer]).pop(0))

    accepted: list[list[Link]] = []
    for _ in range(readers):
        acceptor, mine = Acceptor(Head()), list[Link]()
        for offset, link in enumerate(log):
            if chance.random() < 0.1:
                acceptor = Acceptor(acceptor.head)  # restarted from what it remembers
            if acceptor.accept(offset, headers_of(link)) is Verdict.ACCEPTED:
                mine.append(link)
        accepted.append(mine)
    assert all(history == accepted[0] for history in accepted)
    assert [link.order for link in accepted[0]] == sorted({link.order for link in accepted[0]})
    assert all(after.previous == before.hash for before, after in zip(accepted[0], accepted[0][1:], strict=False))


def test_an_acceptor_without_the_chain_would_be_noticed() -> None:
    """The mutant that only looks at the order accepts a fork: two readers then disagree."""
    links = chain(3)
    fork = Link(1, 2, 0, "f" * 32, "9" * 32)

    def monotone_only(log: list[Link]) -> list[str]:
        order, mine = (0, -1, 0), list[str]()
        for link in log:
            if link.order > order:
                order, mine = link.order, [*mine, link.hash]
        return mine

    log = [*links[:2], fork, links[2]]
    assert monotone_only(log)[-1] == fork.hash
    assert verdicts(log, Head())[0] == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ALIEN, Verdict.ACCEPTED]
