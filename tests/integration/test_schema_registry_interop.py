"""Confluent's own Python client against our registry over HTTP, on a real broker: what real clients send and read."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from diurna_schemas.catalogue import schema_of, schema_text, subjects
from diurna_schemas.codec import Codec
from diurna_schemas.records import Broadcast
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.schema_registry import client as ours
from diurna_streams.schema_registry.topic import SchemaTopic
from support.schema_server import serving

AnswerT = TypeVar("AnswerT")
V1 = json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})
V2 = json.dumps(
    {
        "type": "record",
        "name": "R",
        "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "string", "default": "-"}],
    }
)


@pytest.fixture(scope="module")
async def registry_url(kafka_bootstrap: str) -> AsyncIterator[str]:
    async with (
        KafkaLog(kafka_bootstrap) as log,
        serving(SchemaTopic(log, topic=f"_schemas-{uuid.uuid4().hex[:8]}")) as url,
    ):
        yield url


async def foreign(registry_url: str, use: Callable[[SchemaRegistryClient], AnswerT]) -> AnswerT:
    """Confluent's client blocks: it gets a thread, for the registry runs in this loop."""
    return await asyncio.to_thread(lambda: use(SchemaRegistryClient({"url": registry_url})))


async def test_confluents_serializers_write_and_read_with_our_registry(registry_url: str) -> None:
    def there_and_back(client: SchemaRegistryClient) -> tuple[bytes, Any]:
        context = SerializationContext("orders", MessageField.VALUE)
        written = AvroSerializer(client, V1)({"x": 7}, context)
        assert written is not None
        reader = SchemaRegistryClient({"url": registry_url})
        return written, AvroDeserializer(reader, V2)(written, context)

    written, read = await foreign(registry_url, there_and_back)
    assert written[0] == 0
    assert read == {"x": 7, "y": "-"}
    async with ours.SchemaRegistryClient(registry_url) as client:
        assert await client.schema_by_id(int.from_bytes(written[1:5], "big")) == V1


async def test_confluents_client_asks_sets_and_deletes(registry_url: str) -> None:
    def everything(client: SchemaRegistryClient) -> None:
        subject = "odd/subject %2F"
        first = client.register_schema(subject, Schema(V1))
        assert client.register_schema(subject, Schema(V1)) == first
        assert client.test_compatibility(subject, Schema(V2))
        assert not client.test_compatibility(subject, Schema('"string"'))
        second = client.register_schema(subject, Schema(V2))
        assert client.get_schema(second).schema_str == V2
        assert client.get_versions(subject) == [1, 2]
        assert client.get_latest_version(subject).version == 2
        assert client.get_version(subject, 1).schema_id == first
        assert client.lookup_schema(subject, Schema(V2)).version == 2
        assert subject in client.get_subjects()
        assert client.set_compatibility(subject, "FULL") == {"compatibility": "FULL"}
        assert client.get_compatibility(subject) == "FULL"
        assert client.get_compatibility() == "BACKWARD"
        assert client.delete_version(subject, 1) == 1
        assert client.delete_subject(subject) == [2]
        assert client.delete_subject(subject, permanent=True) == [1, 2]
        with pytest.raises(SchemaRegistryError) as caught:
            client.get_versions(subject)
        assert (caught.value.http_status_code, caught.value.error_code) == (404, 40401)

    await foreign(registry_url, everything)


async def test_confluents_client_reads_what_our_codec_wrote(registry_url: str) -> None:
    async with ours.SchemaRegistryClient(registry_url) as client:
        ids = {name: await client.register(subject, schema_text(name)) for subject, name in subjects()}
        assert len(await client.all_schemas()) >= len(set(subjects()))
    name = "diurna.records.Broadcast"
    written = Codec(ids).encode(
        Broadcast(broadcast_id="b-1", event_type="task.done", source_agent="cicd", created_at_ms=1)
    )

    def read(confluent: SchemaRegistryClient) -> Any:
        return AvroDeserializer(confluent)(written, SerializationContext("broadcasts", MessageField.VALUE))

    fields = await foreign(registry_url, read)
    assert set(fields) == {field["name"] for field in schema_of(name)["fields"]}
