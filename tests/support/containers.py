"""Kafka and Postgres in containers, where Docker answers and has the images; None where it does not."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache

from diurna_deploy.stack.kafka import answers_api_versions
from diurna_deploy.stack.ports import LOOPBACK, free_ports
from diurna_deploy.stack.postgres import asks_for_password

KAFKA_IMAGE = "apache/kafka:4.1.0"
POSTGRES_IMAGE = "postgres:18"
START_SECONDS = 60.0

_KAFKA = {
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_NODE_ID": "1",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
}


@cache
def docker_answers() -> bool:
    """Whether there is a Docker daemon that we may speak to."""
    import docker

    try:
        client = docker.from_env(timeout=2)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:  # no socket, no right, no daemon: each client version says it its own way
        return False


@asynccontextmanager
async def kafka() -> AsyncIterator[str | None]:
    """Yields bootstrap servers, or None."""
    port = free_ports(1)[0]
    environment = _KAFKA | {"KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}"}
    async with _running(KAFKA_IMAGE, 9092, port, environment, lambda: answers_api_versions(LOOPBACK, port)) as runs:
        yield f"{LOOPBACK}:{port}" if runs else None


@asynccontextmanager
async def postgres() -> AsyncIterator[str | None]:
    """Yields the address of a server, or None."""
    port, password = free_ports(1)[0], secrets.token_urlsafe(16)
    environment = {"POSTGRES_USER": "diurna", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "diurna"}
    async with _running(POSTGRES_IMAGE, 5432, port, environment, lambda: asks_for_password(LOOPBACK, port)) as runs:
        yield f"postgresql://diurna:{password}@{LOOPBACK}:{port}/diurna" if runs else None


@asynccontextmanager
async def _running(
    image: str, inner_port: int, port: int, environment: dict[str, str], answers: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bool]:
    """Runs the image with one port published on the loopback, and removes the container in the end."""
    if not await asyncio.to_thread(docker_answers):
        yield False
        return
    # the container that cleans up after others needs an image of its own, which may not be there
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image)
    for name, value in environment.items():
        container = container.with_env(name, value)
    container.ports = {f"{inner_port}/tcp": (LOOPBACK, port)}
    try:
        await asyncio.to_thread(container.start)
    except Exception as error:  # an image that cannot be had, a daemon that refuses: the embedded servers serve as well
        sys.stderr.write(f"docker answers but {image} does not start ({error}): the embedded server is used\n")
        yield False
        return
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await answers():  # noqa: ASYNC110 - another process's readiness has no event
                await asyncio.sleep(0.1)
        yield True
    finally:
        await asyncio.to_thread(container.stop)
