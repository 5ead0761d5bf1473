"""Makes a Kafka, a registry and a database ready: topics, schemas, tables. Doing it twice changes nothing.

`python -m diurna_deploy.provision [--replication N]` does it for those the environment names.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from diurna_schemas import topics
from diurna_schemas.catalogue import schema_text, subjects
from diurna_schemas.errors import DiurnaError, InvalidInput

if TYPE_CHECKING:
    from diurna_deploy.settings import Settings
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


async def provision(settings: Settings, *, replication: int) -> None:
    """All of it. Raises `InvalidInput` where an address is missing, `Unavailable` where a part does not answer."""
    for field in ("kafka_bootstrap_servers", "database_url", "schema_registry_url"):
        if getattr(settings, field) is None:
            raise InvalidInput(f"DIURNA_{field.upper()}", None, "it has to be said what is to be made ready")
    await provision_topics(str(settings.kafka_bootstrap_servers), replication=replication)
    await provision_tables(str(settings.database_url))
    await register_schemas(str(settings.schema_registry_url))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 1 where it was refused or a part did not answer, with the reason on the error output."""
    from diurna_deploy.settings import Settings

    parser = argparse.ArgumentParser(prog="python -m diurna_deploy.provision", description=__doc__)
    parser.add_argument("--replication", type=int, default=1, help="copies of each partition [1]; 3 in production")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(provision(Settings.load(), replication=given.replication))
    except DiurnaError as error:
        print(f"provision: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
