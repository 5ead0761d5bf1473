"""The small parts of the SDK: settings, cleaning of errors, choosing an agent, cursors, the judgement of a tail."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna.api_client import ApiClient
from diurna.bootstrap import LOOK_BACK_RECORDS, resolve
from diurna.bus import EventBus, get_event_bus
from diurna.connection import Connection
from diurna.directory import Candidate, chosen
from diurna.documents import json_text
from diurna.handlers import clean
from diurna.settings import ClientSettings, api_url
from diurna.stream import EventStream, Filter
from diurna.tail import Tail
from diurna_schemas import topics
from diurna_schemas.agents import AgentRegistered, RegisterAgent
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, Link, chain_hash, event_headers
from diurna_schemas.errors import (
    Conflict,
    DiurnaError,
    InvalidInput,
    NotFound,
    TimedOut,
    TooLarge,
    Unavailable,
)
from diurna_streams.log import Outgoing, TopicPartition
from diurna_streams.log.memory import MemoryLog
from support.teams import eventually

CODEC = Codec.numbered()
PLACE = TopicPartition(topics.AGENTS.events, topics.partition_of("somebody"))


def test_the_environment_says_where_everything_is() -> None:
    environment = {
        "DIURNA_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "DIURNA_SCHEMA_REGISTRY_URL": "http://registry",
        "DIURNA_API_URL": "http://api/",
        "DIURNA_STATE_DIR": "/nowhere",
    }
    assert ClientSettings.load(environment) == ClientSettings("kafka:9092", "http://registry", "http://api")


def test_the_bus_of_a_process_is_the_one_that_was_asked_for_before_any_loop_ran() -> None:
    async def inside() -> EventBus:
        assert get_event_bus() is get_event_bus()
        return get_event_bus()

    early = get_event_bus()
    assert get_event_bus() is early
    assert asyncio.run(inside()) is early, "what modules subscribe to while they are imported would hear nothing"


def test_what_the_environment_leaves_open_comes_from_the_stack_running_here(tmp_path: Path) -> None:
    stack = {"kafka_bootstrap_servers": "127.0.0.1:1", "schema_registry_url": "http://r", "api_url": "http://a"}
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    environment = {"DIURNA_STATE_DIR": str(tmp_path), "DIURNA_API_URL": "http://elsewhere"}
    assert ClientSettings.load(environment) == ClientSettings("127.0.0.1:1", "http://r", "http://elsewhere")


def test_nothing_said_anywhere_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    environment = {"DIURNA_STATE_DIR": str(tmp_path)}
    with pytest.raises(Unavailable, match=r"DIURNA_KAFKA_BOOTSTRAP_SERVERS is not set.*`diurna up`"):
        ClientSettings.load(environment)
    with pytest.raises(Unavailable, match="DIURNA_API_URL"):
        api_url(environment)


def test_a_broken_stack_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(Unavailable, match=r"stack\.json cannot be read"):
        ClientSettings.load({"DIURNA_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("token ghp_abcdefghijklmnop failed", "token *** failed"),
        ("password='correct horse' rejected", "password=*** rejected"),
        ('{"api_key": "12345"}', '{"api_key": ***}'),
        ("AWS_SECRET_ACCESS_KEY=abc/def", "AWS_SECRET_ACCESS_KEY=***"),
        ("no secrets here: a=1, b=2", "no secrets here: a=1, b=2"),
    ],
)
def test_errors_keep_no_secrets(said: str, cleaned: str) -> None:
    assert clean(said) == cleaned


def test_errors_are_bounded() -> None:
    assert len(clean("x" * 10_000)) < 2_100


def test_the_least_loaded_agent_is_chosen_and_never_the_one_who_asks() -> None:
    candidates = [Candidate("a", 3, 4), Candidate("b", 1, 8), Candidate("c", 0, 4), Candidate("listed", 0, 0)]
    assert chosen(candidates) == "c"
    assert chosen(candidates, excluded="c") == "b"
    assert chosen([Candidate("listed", 0, 0)]) == "listed"
    assert chosen([]) is None


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidInput, match="payload"):
        json_text("payload", {"x": object()})
    with pytest.raises(TooLarge, match="metadata"):
        json_text("metadata", {"x": "y" * 17_000})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused_where_it_stands(number: float) -> None:
    assert json_text("payload", {"x": [None, "null", 1.5]}) == '{"x":[null,"null",1.5]}'
    with pytest.raises(InvalidInput, match=r"payload\.x\.1\.y: JSON has no such number"):
        json_text("payload", {"x": [None, {"y": number}]})


@pytest.mark.parametrize(
    ("status", "problem", "expected"),
    [
        (404, {"detail": "no agent"}, NotFound),
        (409, {"detail": "is over"}, Conflict),
        (412, {"detail": "version"}, Conflict),
        (413, {"detail": "big"}, TooLarge),
        (422, {"errors": [{"field": "agent_id", "value": "'x'", "reason": "bad"}]}, InvalidInput),
        (500, {}, Unavailable),
        (503, {}, Unavailable),
        (504, {"detail": "slow"}, TimedOut),
        (429, {}, Unavailable),
    ],
)
async def test_every_problem_becomes_an_error_of_ours(
    status: int, problem: dict[str, Any], expected: type[DiurnaError]
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=problem))
    with pytest.raises(expected):
        await ApiClient("http://api", retry_seconds_max=0, transport=transport).read("/x")


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout])
async def test_every_foreign_error_of_the_wire_is_translated(error: type[httpx.TransportError]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("broken", request=request)

    with pytest.raises(Unavailable):
        await ApiClient("http://api", retry_seconds_max=0, transport=httpx.MockTransport(fail)).read("/x")


class Chain:
    """Writes chained events by hand."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.hash = GENESIS
        self.offset = -1

    def write(self, *, previous: str | None = None, offset: int | None = None, command_id: str = "c") -> str:
        """Writes the next event, or a foreign one that names another predecessor."""
        event = AgentRegistered(
            command_id=command_id,
            at_ms=1,
            agent_id="somebody",
            instance_id=uuid.uuid4().hex,
            agent_name="",
            base_url="",
            capabilities=[],
            concurrency=1,
            status="active",
            metadata="{}",
            epoch=0,
        )
        is_own = previous is None
        number = self.offset + 1 if offset is None else offset
        key, value = event.key.encode(), CODEC.encode(event)
        before = self.hash if previous is None else previous
        digest = chain_hash(before, f"1.{number}.0", event.type_name, key, value)
        link = Link(1, number, 0, before, digest)
        headers = event_headers(event, link, partition=PLACE.partition, correlation_id=None, traceparent=None)
        self.log.append(PLACE.topic, PLACE.partition, [Outgoing(key, value, headers)])
        if is_own:
            self.hash, self.offset = digest, number
        return digest


async def provisioned() -> tuple[MemoryLog, Chain]:
    log = MemoryLog()
    await log.provision()
    return log, Chain(log)


async def heard_by(tail: Tail) -> list[str]:
    heard: list[str] = []
    tail.listen([PLACE], lambda seen: heard.append(seen.command_id or ""))
    await tail.watch([PLACE])
    return heard


async def test_a_tail_drops_what_does_not_link_and_hears_nothing_twice() -> None:
    log, chain = await provisioned()
    chain.write(command_id="old")
    tail = Tail(log, CODEC)
    heard = await heard_by(tail)
    chain.write(command_id="one")
    chain.write(previous="f" * 32, offset=99, command_id="zombie")
    chain.write(previous=chain.hash, offset=0, command_id="duplicate")
    chain.write(command_id="two")
    await eventually(lambda: len(heard) == 2)
    assert heard == ["one", "two"]
    assert tail.aliens == 1
    await tail.close()


async def test_a_tail_that_can_ask_nobody_gives_up_an_anchor_nothing_links_to() -> None:
    log, chain = await provisioned()
    for _ in range(6_000):
        chain.write()
    # The first record within reach of a tail that looks back is a zombie's.
    chain.write(previous="f" * 32, offset=99_999, command_id="zombie")
    for _ in range(LOOK_BACK_RECORDS - 1):
        chain.write()
    tail = Tail(log, CODEC)
    heard = await heard_by(tail)
    chain.write(command_id="one")
    await eventually(lambda: heard == ["one"])
    await tail.close()


async def test_a_tail_is_anchored_at_the_head_the_projection_knows() -> None:
    log, chain = await provisioned()
    for _ in range(10):
        chain.write()
    head = Head(10, chain.hash, 1, 9, 0)

    async def heads() -> dict[TopicPartition, Head]:
        return {PLACE: head}

    found = await resolve(log, [PLACE], heads)
    assert found[PLACE].acceptor is not None
    assert (found[PLACE].next_offset, found[PLACE].acceptor.head, found[PLACE].is_tentative) == (10, head, False)


async def test_a_tail_does_without_heads_nobody_can_tell() -> None:
    log, chain = await provisioned()
    chain.write()

    async def heads() -> dict[TopicPartition, Head]:
        raise Unavailable("no API")

    found = await resolve(log, [PLACE], heads)
    assert (found[PLACE].next_offset, found[PLACE].live_from) == (0, 1)


async def test_a_command_that_is_not_acknowledged_is_sent_again_under_the_same_id() -> None:
    failures = 2
    sent: list[bytes] = []

    def fault(topic: str, partition: int, records: Any) -> None:
        nonlocal failures
        sent.append(records[0].value)
        if failures:
            failures -= 1
            raise Unavailable("lost")

    log = MemoryLog(fault=fault)
    await log.provision()
    connection = Connection(log, CODEC)
    command = RegisterAgent(command_id="once", agent_id="somebody", instance_id="i", agent_name="")
    position = await connection.send(command)
    assert position.offset == 0
    assert len(sent) == 3
    assert len(set(sent)) == 1
    await connection.close()


async def test_no_answer_is_timed_out_and_its_effect_unknown() -> None:
    log, _ = await provisioned()
    connection = Connection(log, CODEC)
    command = RegisterAgent(command_id="unheard", agent_id="somebody", instance_id="i", agent_name="")
    with pytest.raises(TimedOut, match=r"agent\.register unheard"):
        await connection.ask(command, timeout=0.05)
    await connection.close()


async def test_who_waits_when_the_connection_closes_is_told() -> None:
    log, _ = await provisioned()
    connection = Connection(log, CODEC)
    command = RegisterAgent(command_id="waiting", agent_id="somebody", instance_id="i", agent_name="")
    asking = asyncio.create_task(connection.ask(command))
    await eventually(lambda: len(log.records("agents.commands", PLACE.partition)) == 1)
    await connection.close()
    with pytest.raises(Unavailable, match="closed"):
        await asking


async def test_a_cursor_of_one_position_goes_on_after_it() -> None:
    log, chain = await provisioned()
    for number in range(5):
        chain.write(command_id=f"c{number}")
    stream = EventStream(log, CODEC, Filter(topic=PLACE.topic))
    found = await stream.start(f"{PLACE.topic}:{PLACE.partition}:2")
    assert found[PLACE].live_from == 3
    events = stream.events(found)
    seen = [(await anext(events)).seen for _ in range(2)]
    assert [one.command_id for one in seen if one is not None] == ["c3", "c4"]
    await events.aclose()


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "agents.events:0",
        "agents.events:0:5",
        "broadcasts:0:0",
        "a:0:1,,b:0:1",
        "agents.events:0:0,agents.events:6:0",
        "agents.events:0:0,agents.commands:0:0",
        "agents.events:0:0,agents.events:1:0,agents.events:0:0",
    ],
)
async def test_a_cursor_that_fits_nowhere_is_refused(cursor: str) -> None:
    log, _ = await provisioned()
    with pytest.raises(InvalidInput, match="Last-Event-ID"):
        await EventStream(log, CODEC, Filter(topic=PLACE.topic)).start(cursor)


async def test_a_cursor_of_a_wider_stream_fits() -> None:
    log, chain = await provisioned()
    chain.write(command_id="c0")
    found = await EventStream(log, CODEC, Filter(topic=PLACE.topic)).start(
        f"broadcasts:0:0,{PLACE.topic}:{PLACE.partition}:1"
    )
    assert found[PLACE].live_from == 1
