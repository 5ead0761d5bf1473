"""Asks whether somebody answers: your own servers, and processes that say when they are ready."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from diurna_deploy.stack.kafka import answers_api_versions
from diurna_deploy.stack.processes import Ready
from diurna_schemas.errors import Unavailable

POSTGRES_PORT: Final = 5432
_ANSWER_SECONDS: Final = 3.0


async def check_kafka(bootstrap_servers: str) -> None:
    """Raises `Unavailable` where no server of the list answers."""
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if await answers_api_versions(host.strip("[]"), int(port)):
            return
    raise Unavailable(f"DIURNA_KAFKA_BOOTSTRAP_SERVERS: no broker answers at {bootstrap_servers}")


async def check_postgres(database_url: str) -> None:
    """Raises `Unavailable` where nobody listens there; whether it lets us in is found out by the first who connects."""
    parts = urlsplit(database_url)
    if parts.hostname is None:
        return  # a socket, or a service: only the client knows where that is
    host, port = parts.hostname, parts.port or POSTGRES_PORT
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"DIURNA_DATABASE_URL: no server answers at {host}:{port}") from error


async def check_registry(schema_registry_url: str) -> None:
    """Raises `Unavailable` where no registry answers."""
    if not await answers_http(f"{schema_registry_url}/subjects"):
        raise Unavailable(f"DIURNA_SCHEMA_REGISTRY_URL: no schema registry answers at {schema_registry_url}")


async def is_ready(ready: Ready) -> bool:
    """Whether a process is as it said it would be when ready."""
    match ready:
        case None:
            return True
        case str():
            return await answers_http(ready)
        case Path():
            return ready.exists()
        case _:
            return await ready()


async def answers_http(url: str) -> bool:
    """Whether the URL answers 2xx."""
    import httpx  # 60 ms, for those who ask

    context: ssl.SSLContext | bool = ssl.create_default_context() if url.startswith("https:") else False
    try:
        # neither a proxy nor the certificates of one have a part in asking a neighbour
        async with httpx.AsyncClient(
            verify=context, trust_env=url.startswith("https:"), timeout=_ANSWER_SECONDS
        ) as client:
            return (await client.get(url)).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
