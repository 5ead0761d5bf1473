"""An orchestrator as a process of its own, to be killed: `python orchestrator_process.py BOOTSTRAP DATABASE FOLDER`.

It loads everything and waits for a line before it goes to work, as a worker that is forked from a warm nursery is warm.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from diurna.connection import Connection
from diurna.settings import ClientSettings
from diurna_deploy.agent_process import ORCHESTRATOR, at_work
from diurna_schemas.codec import Codec
from diurna_streams.log.kafka import KafkaLog
from diurna_workflows.manager import warm_up


async def main(bootstrap_servers: str, database_url: str, folder: str) -> None:
    warm_up()
    os.environ["DIURNA_DATABASE_URL"] = database_url
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.to_thread(sys.stdin.readline)
    log = KafkaLog(bootstrap_servers, client_id=ORCHESTRATOR)
    client = ClientSettings(bootstrap_servers, "unused: the codec knows its numbers")
    async with (
        Connection(log, Codec.numbered(), source="/agents/orchestrator", owns_log=True) as connection,
        at_work(ORCHESTRATOR, connection, client, folder=Path(folder)),
    ):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
