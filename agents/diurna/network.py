"""What a connection to the real parts is made of: Kafka, the ids of the schema registry, and what the API knows."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import httpx

from diurna.api_client import ApiClient
from diurna.bootstrap import Heads
from diurna.directory import Candidate, Directory
from diurna.seen import Learn
from diurna.settings import ClientSettings
from diurna_schemas.catalogue import RECORDS, schema_of
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Unavailable, Unreadable
from diurna_streams.log import Log, TopicPartition
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.schema_registry.client import RegisteredSchema, SchemaRegistryClient

_HEADS_SECONDS: Final = 2.0
UNKNOWN_SECONDS: Final = 10.0
"""So long an id counts as unknown without asking again."""
_UNKNOWN_IDS_MAX: Final = 1_000
_LIVE: Final = frozenset({"active", "busy", "idle"})


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """A log and a codec; where the API is known, also what it knows."""

    log: Log
    codec: Codec
    learn: Learn
    heads: Heads | None
    directory: Directory | None


async def network_parts(settings: ClientSettings) -> NetworkParts:
    """Asks the registry once for all ids; the log connects when it is first used.

    Raises `Unavailable` where the registry does not answer, or does not know a record of ours.
    """
    codec = await codec_from(settings.schema_registry_url)
    log = KafkaLog(settings.kafka_bootstrap_servers, client_id="diurna-client")
    learn = SchemaLearning(settings.schema_registry_url, codec)
    if settings.api_url is None:
        return NetworkParts(log, codec, learn, None, None)
    known = ApiKnowledge(settings.api_url)
    return NetworkParts(log, codec, learn, known.heads, known)


async def codec_from(schema_registry_url: str) -> Codec:
    """A codec with the ids of the registry, and every older version it knows of our records."""
    async with SchemaRegistryClient(schema_registry_url) as client:
        registered = await client.all_schemas()
    ids: dict[str, int] = {}
    others: list[tuple[int, dict[str, Any]]] = []
    for one in registered:
        name, schema = _named(one)
        if name not in RECORDS:
            continue
        if schema == schema_of(name):
            ids[name] = one.id
        else:
            others.append((one.id, schema))
    missing = sorted(RECORDS.keys() - ids.keys())
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise Unavailable(
            f"the schema registry at {schema_registry_url} does not know {named}: "
            "run `diurna up`, or `diurna schema register`"
        )
    codec = Codec(ids)
    for schema_id, schema in others:
        codec.learn(schema_id, schema)
    return codec


class SchemaLearning:
    """Asks the registry for ids that came up later, such as a newer version's.

    What nobody knows, or is no record of ours, is asked for again only after a while: broken records may carry any id,
    each question keeps a partition waiting, and yet a schema may be registered after what was written with it.
    """

    def __init__(
        self,
        schema_registry_url: str,
        codec: Codec,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = schema_registry_url
        self._codec = codec
        self._transport = transport
        self._clock = clock
        self._hopeless: dict[int, tuple[float, Unreadable]] = {}

    async def __call__(self, schema_id: int) -> None:
        """Makes an id known. Raises `Unreadable` where it stays unknown, `Unavailable` where there is no answer."""
        asked_at, error = self._hopeless.get(schema_id, (-math.inf, None))
        if error is not None and self._clock() - asked_at < UNKNOWN_SECONDS:
            raise error.with_traceback(None)
        try:
            async with SchemaRegistryClient(self._url, deadline_s=5.0, transport=self._transport) as client:
                self._codec.learn(schema_id, json.loads(await client.schema_by_id(schema_id)))
        except Unreadable as refusal:
            if len(self._hopeless) >= _UNKNOWN_IDS_MAX:
                self._hopeless.clear()
            self._hopeless[schema_id] = (self._clock(), refusal)
            raise
        self._hopeless.pop(schema_id, None)


class ApiKnowledge:
    """What the API knows: the heads of the chains, and who has which capability."""

    def __init__(self, api_url: str) -> None:
        self._api = ApiClient(api_url, retry_seconds_max=1.0)
        self._patient = ApiClient(api_url)

    async def heads(self) -> dict[TopicPartition, Head]:
        """The last accepted event of each chained partition, as the tables hold it.

        Raises `Unavailable` where the API does not answer at once: a tail can do without.
        """
        try:
            async with asyncio.timeout(_HEADS_SECONDS):
                found = await self._api.read("/projections/heads")
        except TimeoutError as error:
            raise Unavailable(f"{self._api.url} did not name the heads in time") from error
        return {
            TopicPartition(one["topic"], one["partition"]): Head(
                one["next"], one["hash"], one["incarnation"], one["command_offset"], one["index"]
            )
            for one in cast("list[dict[str, Any]]", found)
        }

    async def candidates(self, capability: str) -> list[Candidate]:
        """The live agents that have a capability of this name, with what their last heartbeats said."""
        agents = cast(
            "list[dict[str, Any]]", await self._patient.read("/agents", {"capability": capability, "limit": 1000})
        )
        found: list[Candidate] = []
        for agent in agents:
            every = cast("list[dict[str, Any]]", agent.get("instances") or [])
            instances = [one for one in every if one.get("status") in _LIVE]
            if instances:
                in_flight = sum(int(one.get("in_flight") or 0) for one in instances)
                room = sum(int(one.get("concurrency") or 0) for one in instances)
                found.append(Candidate(str(agent["agent_id"]), in_flight, room))
        return found

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()
        await self._patient.close()


def _named(one: RegisteredSchema) -> tuple[str, dict[str, Any]]:
    try:
        schema: object = json.loads(one.schema)
    except ValueError:
        return "", {}
    if not isinstance(schema, dict):
        return "", {}
    fields = cast("dict[str, Any]", schema)
    return f"{fields.get('namespace', '')}.{fields.get('name', '')}".removeprefix("."), fields
