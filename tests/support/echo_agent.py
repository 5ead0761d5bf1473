"""An agent as a process of its own, `python -m support.echo_agent SERVERS AGENT_ID`; it prints its address."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import structlog

from diurna import Agent
from diurna.connection import Connection
from diurna_schemas.codec import Codec
from diurna_streams.log.kafka import KafkaLog
from support.teams import eventually


async def main(servers: str, agent_id: str) -> None:
    async with Connection(KafkaLog(servers, client_id=agent_id), Codec.numbered(), owns_log=True) as connection:
        agent = Agent(agent_id, connection=connection, concurrency=4, shutdown_seconds=10)

        @agent.on_request("echo")
        async def echo(request: Any) -> Any:
            return request.payload

        @agent.on_request("slow")
        async def slow(request: Any, context: Any) -> str:
            await context.report("begun")
            await asyncio.sleep(1)
            return "done"

        async def tell() -> None:
            await eventually(lambda: agent.is_running, seconds=60)
            print(agent.base_url, flush=True)

        telling = asyncio.create_task(tell())
        await agent.run()
        await telling
        print("ended", flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(*sys.argv[1:]))
