"""Brings a Postgres schema to the tables of today: each migration once, under a lock, idempotently."""

from __future__ import annotations

import hashlib
from typing import Final

from diurna_projections.store.database import Connection
from diurna_projections.store.statements import migrations
from diurna_schemas.errors import Conflict

# `if not exists` believes a cache that the lock does not refresh, so another's schema may come as a surprise.
_CREATE_SCHEMA: Final = """
do $$ begin
    create schema if not exists {schema};
exception when duplicate_schema or unique_violation then null;
end $$
"""


async def migrate(connection: Connection, schema: str) -> list[str]:
    """Applies what is missing and returns the names of it. `schema` was checked to be an identifier.

    Raises `Conflict` where a migration that was applied is not the one we know: then the tables are of another version,
    and since they can be made anew, the way on is to drop the schema and let the projector fill it again.
    """
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('diurna projections ' || $1))", schema)
        await connection.execute(_CREATE_SCHEMA.format(schema=schema))
        await connection.execute(
            f"create table if not exists {schema}.migrations (name text primary key, digest text not null)"
        )
        found = await connection.fetch(f"select name, digest from {schema}.migrations")  # noqa: S608
        known: dict[str, str] = {row["name"]: row["digest"] for row in found}
        for name, sql in migrations():
            digest = hashlib.sha256(sql.encode()).hexdigest()
            if name not in known:
                await connection.execute(sql)
                await connection.execute(f"insert into {schema}.migrations values ($1, $2)", name, digest)  # noqa: S608
                applied.append(name)
            elif known[name] != digest:
                raise Conflict(
                    f"migration {name} of schema {schema} is of another version: drop the schema, "
                    "the projector will make it anew"
                )
    return applied
