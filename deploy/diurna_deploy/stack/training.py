"""Trains Kafka's AOT cache once: `python -m diurna_deploy.stack.training CACHE_DIR`, started behind the first start.

A second broker in a folder of its own is put to the work ours will do, stopped, started on what it wrote, put to
work again and stopped; the JVM then writes what it loaded in its second life, and the cache gets its name. A broker
that only starts and stops loads less: neither logs nor clients. Whoever comes second finds the lock taken and leaves.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from diurna_deploy.stack.files import FileLock, private_directory
from diurna_deploy.stack.jars import JarCache
from diurna_deploy.stack.kafka import KafkaNode
from diurna_schemas.topics import TOPICS
from diurna_streams.log import Outgoing, TopicPartition
from diurna_streams.log.kafka import KafkaLog

KEPT_MAX: Final = 3


async def train(cache_dir: Path) -> Path | None:
    """The cache, trained where there was none; None where another trains it or the jars are not there."""
    if not all(jar.exists() for jar in JarCache(cache_dir / "jars").class_path()):
        return None
    folder = private_directory(cache_dir / "aot")
    lock = FileLock.try_take(folder / "training.lock")
    if lock is None:
        return None
    with lock, tempfile.TemporaryDirectory(prefix="training-", dir=folder) as place:
        # the place goes with this process; what a killed training left goes now
        for left in folder.glob("training-*/"):
            if left != Path(place):
                shutil.rmtree(left, ignore_errors=True)
        written = Path(place) / "written.aot"
        node = KafkaNode(Path(place), cache_dir, train_into=written)
        cache = node.aot_cache()
        if cache.exists():
            return cache
        for life in (KafkaNode(Path(place), cache_dir), node):
            await life.start()
            await _work(life.bootstrap_servers)
            await life.stop()
        if not written.exists():
            return None
        written.rename(cache)
        _forget_old(folder)
        return cache


async def _work(servers: str) -> None:
    """Has the broker make our topics, take records, give them back, and place a member of a group."""
    places = [TopicPartition(topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions)]
    async with KafkaLog(servers, client_id="training") as log:
        await log.provision(TOPICS.values())
        starts = await log.ends(places)
        producer, reader = await log.producer(), await log.reader()
        placement = await log.placement(places[0].topic, "training")
        await placement.changes()
        await reader.start_at(starts)
        for place in places:
            await producer.send_batch(*place, [Outgoing(b"training", b"record")] * 3)
        missing = 3 * len(places)
        while missing > 0:
            missing -= len(await reader.read())
        await placement.close()
        await producer.close()


def _forget_old(folder: Path) -> None:
    caches = sorted(folder.glob("*.aot"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in caches[KEPT_MAX:]:
        old.unlink(missing_ok=True)


def main() -> int:
    os.nice(10)
    return 0 if asyncio.run(train(Path(sys.argv[1]))) else 1


if __name__ == "__main__":
    raise SystemExit(main())
