"""What becomes of dead letters over HTTP: decided again once they can be understood, given up, each exactly once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from diurna.testing import Team, team
from diurna_schemas.agents import RegisterAgent
from diurna_schemas.envelope import Headers
from diurna_schemas.ids import Position
from diurna_schemas.topics import AGENTS, WORKFLOWS, partition_of
from diurna_streams.log import Outgoing
from support.teams import eventually


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture(scope="module")
async def api(memory: Team) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(memory.app), base_url="http://team") as client:
        yield client


async def buried(memory: Team, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> str:
    """Writes a record nobody can decide, and returns the id of its dead letter once it is there."""
    producer = await memory.connection.log.producer()
    offset = await producer.send(topic, partition, Outgoing(key, value, headers))
    await producer.close()
    letter_id = f"{topic}:{partition}:{offset}"
    await eventually(lambda: memory.reads.tables.dead_letters.get(letter_id) is not None)
    return letter_id


async def misplaced(memory: Team, agent_id: str) -> str:
    """A registration on a partition where its agent does not belong."""
    command = RegisterAgent(
        command_id=str(uuid.uuid4()),
        agent_id=agent_id,
        instance_id=f"{agent_id}:1",
        agent_name=agent_id,
        base_url="",
        capabilities=[],
        concurrency=1,
    )
    elsewhere = (partition_of(agent_id) + 1) % 6
    value = memory.connection.codec.encode(command)
    return await buried(memory, AGENTS.commands, elsewhere, agent_id.encode(), value)


async def test_a_letter_is_decided_again_where_it_belongs_and_only_once(api: httpx.AsyncClient, memory: Team) -> None:
    agent_id = f"lost-{uuid.uuid4().hex[:8]}"
    letter_id = await misplaced(memory, agent_id)
    assert (await api.get(f"/agents/{agent_id}")).status_code == 404
    answer = await api.post(f"/dead-letters/{letter_id}/redrive", json={"settled_by": "ada", "reason": "repaired"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "redriven"
    assert Position.parse(answer.json()["answered_at"]).topic == AGENTS.events
    assert Position.parse(answer.json()["position"]).topic == AGENTS.dead_letters
    assert (await api.get(f"/agents/{agent_id}")).json()["status"] == "active"
    document = await memory.reads.dead_letter(letter_id)
    assert document is not None
    assert (document["status"], document["settled_by"], document["reason"]) == ("redriven", "ada", "repaired")
    for verb in ("redrive", "discard"):
        again = await api.post(f"/dead-letters/{letter_id}/{verb}", json={"settled_by": "bob"})
        assert again.status_code == 409
        assert "redriven by ada" in again.json()["detail"]


async def test_a_letter_that_is_still_unreadable_stays_open(api: httpx.AsyncClient, memory: Team) -> None:
    letter_id = await buried(memory, WORKFLOWS.commands, 2, b"w", b"no avro at all")
    answer = await api.post(f"/dead-letters/{letter_id}/redrive", json={"settled_by": "ada"})
    assert answer.status_code == 409
    assert "still cannot be understood" in answer.json()["detail"]
    document = await memory.reads.dead_letter(letter_id)
    assert document is not None
    assert document["status"] == "open"
    answer = await api.post(f"/dead-letters/{letter_id}/discard", json={"settled_by": "ada", "reason": "nonsense"})
    assert answer.json()["status"] == "discarded"


async def test_the_same_key_settles_a_letter_once_and_gives_the_first_answer_again(
    api: httpx.AsyncClient, memory: Team
) -> None:
    redriven = await misplaced(memory, f"lost-{uuid.uuid4().hex[:8]}")
    discarded = await buried(memory, WORKFLOWS.commands, 3, b"w", b"no avro at all")
    for letter_id, verb in ((redriven, "redrive"), (discarded, "discard")):
        first, again = [
            await api.post(
                f"/dead-letters/{letter_id}/{verb}", json={"settled_by": "ada"}, headers={"Idempotency-Key": "once"}
            )
            for _ in range(2)
        ]
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.json() == first.json()


async def test_an_event_that_cannot_be_read_is_no_command_to_decide_again(api: httpx.AsyncClient, memory: Team) -> None:
    letter_id = await buried_broadcast(memory)
    answer = await api.post(f"/dead-letters/{letter_id}/redrive", json={"settled_by": "ada"})
    assert answer.status_code == 409
    assert "rebuild" in answer.json()["detail"]


async def buried_broadcast(memory: Team) -> str:
    return await buried(memory, "broadcasts", 1, b"x", b"no avro at all")


@pytest.mark.parametrize(
    ("letter_id", "body", "status"),
    [
        ("agents.commands:0:999999", {"settled_by": "ada"}, 404),
        ("nonsense", {"settled_by": "ada"}, 422),
        ("agents.commands:0:1", {}, 422),
        ("agents.commands:0:1", {"settled_by": "a b"}, 422),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_written(
    api: httpx.AsyncClient, letter_id: str, body: dict[str, str], status: int
) -> None:
    answer = await api.post(f"/dead-letters/{letter_id}/redrive", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
