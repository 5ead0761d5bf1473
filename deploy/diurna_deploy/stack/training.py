"""Trains Kafka's AOT cache once: `python -m diurna_deploy.stack.training CACHE_DIR`, started behind the first start.

A second broker in a folder of its own starts, answers and stops; the JVM then writes what it loaded, and the cache gets
its name. Whoever comes second finds the lock taken and leaves.
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
        await node.start()
        await node.stop()
        if not written.exists():
            return None
        written.rename(cache)
        _forget_old(folder)
        return cache


def _forget_old(folder: Path) -> None:
    caches = sorted(folder.glob("*.aot"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in caches[KEPT_MAX:]:
        old.unlink(missing_ok=True)


def main() -> int:
    os.nice(10)
    return 0 if asyncio.run(train(Path(sys.argv[1]))) else 1


if __name__ == "__main__":
    raise SystemExit(main())
