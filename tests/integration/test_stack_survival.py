"""Servers and those who start them are killed: nothing acknowledged is lost, and there is never a second server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from diurna_deploy.settings import Settings
from diurna_deploy.stack import unprivileged
from diurna_deploy.stack.files import read_json, write_json
from diurna_deploy.stack.jars import JarCache
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.ports import free_ports
from diurna_deploy.stack.postgres import PostgresNode
from diurna_schemas.errors import Conflict

TOPIC = "survival"
STARTER = """
import asyncio, json, os, signal, sys
from pathlib import Path
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.postgres import PostgresNode
async def main():
    nodes = KafkaNode(Path(sys.argv[1]), Path(sys.argv[2])), PostgresNode(Path(sys.argv[1]))
    owned = await asyncio.gather(*(node.start() for node in nodes))
    print(json.dumps({"owned": owned, "pids": [node.running().identity.pid for node in nodes]}), flush=True)
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""

STOPPED = """
async def stop():
    nodes = KafkaNode(Path(sys.argv[1]), Path(sys.argv[2])), PostgresNode(Path(sys.argv[1]))
    print(json.dumps({"stopped": [await node.stop() for node in nodes], "account": os.geteuid()}), flush=True)
asyncio.run(stop())
"""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[KafkaNode, PostgresNode]]:
    kafka, postgres = KafkaNode(tmp_path, Settings().cache_dir), PostgresNode(tmp_path)
    yield kafka, postgres
    await asyncio.gather(kafka.stop(), postgres.stop())


async def started_by_another(state_dir: Path, *words: str) -> tuple[int | None, dict[str, list[int]]]:
    """Starts both servers from a process of its own; its exit code and what it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, str(state_dir), str(Settings().cache_dir), *words, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    return child.returncode, json.loads(said)


async def test_records_kafka_acknowledged_outlive_its_kill(nodes: tuple[KafkaNode, PostgresNode]) -> None:
    kafka, _ = nodes
    await kafka.start()
    servers = kafka.bootstrap_servers
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True) as producer:
        sent = [await producer.send(TOPIC, str(number).encode()) for number in range(5000)]
        acknowledged = {(await future).offset for future in sent}
        kill(kafka)
    assert await kafka.start()
    assert kafka.bootstrap_servers == servers
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[int] = []
        while len(found) < end:
            batches = await consumer.getmany(timeout_ms=1000)
            found += [record.offset for batch in batches.values() for record in batch]
    assert acknowledged <= set(found)
    assert len(acknowledged) == 5000


async def test_rows_postgres_committed_outlive_its_kill(nodes: tuple[KafkaNode, PostgresNode]) -> None:
    _, postgres = nodes
    await postgres.start()
    url = postgres.database_url()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept (number int PRIMARY KEY)")
    for number in range(200):
        await connection.execute("INSERT INTO kept VALUES ($1)", number)
    kill(postgres)
    connection.terminate()
    assert await postgres.start()
    assert postgres.database_url() == url
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 200
    durable = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit")}
    assert durable == {"fsync": "on", "synchronous_commit": "on"}
    assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
    await connection.close()


async def test_a_wrong_password_is_refused(nodes: tuple[KafkaNode, PostgresNode]) -> None:
    _, postgres = nodes
    await postgres.start()
    right = (postgres.folder / "password").read_text().strip()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.database_url().replace(right, "wrong"))


async def test_servers_outlive_a_starter_that_is_killed_and_the_next_one_joins(
    nodes: tuple[KafkaNode, PostgresNode],
) -> None:
    kafka, postgres = nodes
    code, said = await started_by_another(kafka.state_dir, "die")
    assert code == -signal.SIGKILL
    assert said["owned"] == [True, True]
    assert [await kafka.start(), await postgres.start()] == [False, False]
    records = [kafka.running(), postgres.running()]
    assert [record.identity.pid for record in records if record is not None] == said["pids"]


async def test_of_two_starters_at_once_one_starts_and_one_joins(nodes: tuple[KafkaNode, PostgresNode]) -> None:
    kafka, _ = nodes
    (first_code, first), (second_code, second) = await asyncio.gather(
        started_by_another(kafka.state_dir), started_by_another(kafka.state_dir)
    )
    assert first_code == second_code == 0
    assert first["pids"] == second["pids"]
    assert sorted(zip(first["owned"], second["owned"], strict=True)) in (
        [(False, True), (False, True)],
        [(False, True), (True, False)],
        [(True, False), (True, False)],
    )


async def test_a_port_somebody_took_meanwhile_is_given_up_and_the_data_is_kept(
    nodes: tuple[KafkaNode, PostgresNode],
) -> None:
    kafka, postgres = nodes
    await asyncio.gather(kafka.start(), postgres.start())
    connection = await asyncpg.connect(postgres.database_url())
    await connection.execute("CREATE TABLE kept ()")
    await connection.close()
    servers, url = kafka.bootstrap_servers, postgres.database_url()
    await asyncio.gather(kafka.stop(), postgres.stop())
    taken = [int(servers.rpartition(":")[2]), int(url.rpartition(":")[2].partition("/")[0])]
    held = [await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port) for port in taken]
    try:
        await asyncio.gather(kafka.start(), postgres.start())
        assert kafka.bootstrap_servers != servers
        assert postgres.database_url() != url
        connection = await asyncpg.connect(postgres.database_url())
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        await connection.close()
    finally:
        for server in held:
            server.close()


async def test_a_port_that_was_asked_for_is_taken_or_refused_by_name(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    postgres = PostgresNode(tmp_path / "one", port=port)
    try:
        await postgres.start()
        assert f":{port}/" in postgres.database_url()
        with pytest.raises(Conflict, match=rf"DIURNA_POSTGRES_PORT: port {port} is taken by process \d+ \(postgres\)"):
            await PostgresNode(tmp_path / "two", port=port).start()
    finally:
        await postgres.stop()


async def test_a_server_of_another_version_is_not_joined(nodes: tuple[KafkaNode, PostgresNode]) -> None:
    _, postgres = nodes
    await postgres.start()
    path = postgres.folder / "node.json"
    written = read_json(path)
    assert written is not None
    write_json(path, written | {"version": "17"})
    try:
        with pytest.raises(Conflict, match=r"postgres 17 runs in .* this is 18"):
            await PostgresNode(postgres.state_dir).start()
    finally:
        write_json(path, written)


async def test_what_broke_off_while_it_was_made_is_made_again(nodes: tuple[KafkaNode, PostgresNode]) -> None:
    kafka, postgres = nodes
    for node in (kafka, postgres):
        half = node.folder / "data.new"
        half.mkdir(parents=True)
        (half / "PG_VERSION").write_text("18\n")
    for folder in (kafka.folder, postgres.folder):
        folder.chmod(0o700)
    assert all(await asyncio.gather(kafka.start(), postgres.start()))


async def test_a_postmaster_file_with_the_number_of_another_process_does_not_stop_a_start(
    nodes: tuple[KafkaNode, PostgresNode],
) -> None:
    _, postgres = nodes
    await postgres.start()
    await postgres.stop()
    stale = postgres.data / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{postgres.data}\n1\n1\n\n127.0.0.1\n  1  1\nready\n")
    assert await postgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
@pytest.mark.parametrize("way", ["namespace", "account"])
async def test_root_runs_postgres_as_somebody_else(tmp_path: Path, way: str) -> None:
    postgres = PostgresNode(tmp_path)
    postgres.drop_privileges = way
    try:
        await postgres.start()
        connection = await asyncpg.connect(postgres.database_url())
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        record = postgres.running()
        assert record is not None
        owner = psutil.Process(record.identity.pid).uids().real
        assert owner == (0 if way == "namespace" else 65534)  # in its namespace it is account 1000
    finally:
        await postgres.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_an_ordinary_account_runs_both_with_files_of_its_own() -> None:
    await JarCache(Settings().cache_dir / "jars").ensure()
    # not in tmp_path, which is closed to other accounts
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        await asyncio.to_thread(give_with_jars, place)
        become = [sys.executable, "-I", "-S", unprivileged.__file__, "account", sys.executable, "-c"]
        child = await asyncio.create_subprocess_exec(
            *become, STARTER + STOPPED, str(place / "state"), str(place / "cache"), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await child.communicate()
        assert child.returncode == 0
        assert [json.loads(line) for line in said.splitlines()][1] == {"stopped": [True, True], "account": 65534}
        assert await asyncio.to_thread(owners, place / "state") == {unprivileged.NOBODY_ID}


def give_with_jars(place: Path) -> None:
    """Makes the place account 65534's, with a cache that holds the jars."""
    shutil.copytree(Settings().cache_dir / "jars", place / "cache/jars")
    for path in (place, *place.rglob("*")):
        os.chown(path, unprivileged.NOBODY_ID, unprivileged.NOBODY_ID)


def owners(place: Path) -> set[int]:
    return {path.stat().st_uid for path in place.rglob("*")}


def kill(node: KafkaNode | PostgresNode) -> None:
    record = node.running()
    assert record is not None
    os.kill(record.identity.pid, signal.SIGKILL)
