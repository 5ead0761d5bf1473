"""Makes a Kafka, a registry and a database ready: topics, schemas, tables. Doing it twice changes nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from diurna_schemas import topics
from diurna_schemas.catalogue import schema_text, subjects

if TYPE_CHECKING:
    from diurna_streams.schema_registry.store import SchemaRegistry

COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
"""Today's code reads what any version of it ever wrote."""


def load_clients() -> None:
    """Imports what topics and tables are made with; safe in a thread."""
    import_module("diurna_streams.log.kafka")
    import_module("diurna_projections.store")


async def provision_topics(kafka_bootstrap_servers: str, *, replication: int = 1) -> list[str]:
    """Creates the topics that are missing, and returns their names."""
    from diurna_streams.log.kafka import KafkaLog

    async with KafkaLog(kafka_bootstrap_servers, client_id="diurna-provision") as log:
        return await log.provision(topics.TOPICS.values(), replication=replication)


async def provision_tables(database_url: str) -> None:
    """Creates or updates the tables."""
    from diurna_projections.store import Store

    store = await Store.connect(database_url)
    try:
        await store.migrate()
    finally:
        await store.close()


async def own_schema_ids(registry: SchemaRegistry) -> dict[str, int]:
    """As `register_schemas`, in the registry of this process: there is nobody to ask over HTTP yet."""
    from diurna_streams.schema_registry import decisions
    from diurna_streams.schema_registry.parsing import Schema, parse

    await registry.write(lambda state: decisions.set_level(state, None, COMPATIBILITY))
    ids: dict[str, int] = {}

    async def registered(subject: str, schema: Schema) -> int:
        return (await registry.write(lambda state: decisions.register(state, subject, schema))).id

    for subject, name in subjects():
        ids[name] = await registered(subject, parse(schema_text(name)))
    return ids


async def register_schemas(schema_registry_url: str) -> dict[str, int]:
    """Registers every schema under its subject, and returns the ids by full name.

    Raises `Refused` where the registry finds one incompatible with what it knows.
    """
    from diurna_streams.schema_registry.client import SchemaRegistryClient

    ids: dict[str, int] = {}
    async with SchemaRegistryClient(schema_registry_url) as client:
        await client.set_compatibility(None, COMPATIBILITY)
        for subject, name in subjects():
            ids[name] = await client.register(subject, schema_text(name))
    return ids
