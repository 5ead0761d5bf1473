"""What is learned of schema ids that came up later, and how often a registry is asked."""

from __future__ import annotations

import json

import httpx
import pytest

from diurna.network import UNKNOWN_SECONDS, SchemaLearning
from diurna_schemas.agents import Heartbeat
from diurna_schemas.catalogue import schema_of
from diurna_schemas.codec import Codec
from diurna_schemas.errors import UnknownSchema, Unreadable

LATER = 4_711
OURS = json.dumps(schema_of("diurna.agents.Heartbeat"))
THEIRS = json.dumps({"type": "record", "name": "Theirs", "fields": []})


class Registry:
    """Answers with what is registered, counts the questions, and says what time it is."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.asked = 0
        self.now = 100.0
        self.codec = Codec.numbered()
        self.learn = SchemaLearning(
            "http://registry", self.codec, transport=httpx.MockTransport(self._answer), clock=lambda: self.now
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        schema = self.schemas.get(int(request.url.path.rpartition("/")[2]))
        if schema is None:
            return httpx.Response(404, json={"error_code": 40403, "message": "no"})
        return httpx.Response(200, json={"schema": schema})


async def test_an_id_nobody_knows_is_asked_for_once_in_a_while() -> None:
    registry = Registry()
    for _ in range(5):
        with pytest.raises(UnknownSchema, match="4711"):
            await registry.learn(LATER)
    assert registry.asked == 1


async def test_a_schema_of_others_is_asked_for_once_in_a_while() -> None:
    registry = Registry()
    registry.schemas[LATER] = THEIRS
    for _ in range(5):
        with pytest.raises(Unreadable, match="'Theirs', which is no record of Diurna"):
            await registry.learn(LATER)
    assert registry.asked == 1


async def test_a_schema_that_is_registered_after_it_was_asked_for_is_learned() -> None:
    registry = Registry()
    with pytest.raises(UnknownSchema):
        await registry.learn(LATER)
    registry.schemas[LATER] = OURS
    registry.now += UNKNOWN_SECONDS
    await registry.learn(LATER)
    beat = Heartbeat(agent_id="a", instance_id="i", in_flight=0, status="active", sent_at_ms=1)
    value = registry.codec.encode(beat)
    assert registry.codec.decode(value[:1] + LATER.to_bytes(4, "big") + value[5:]) == beat
