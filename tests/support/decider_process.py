"""A decider as a process, owner of everything: `python decider_process.py BOOTSTRAP FAMILY`. Killed, not stopped."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from diurna_streams.conduct import ALL_RULES
from diurna_streams.decide import Decider
from support.deciding import CODEC, RivalKafkaLog


async def main(bootstrap_servers: str, family: str) -> None:
    (rules,) = [one for one in ALL_RULES if one.family.name == family]
    async with RivalKafkaLog(bootstrap_servers, client_id="chaos") as log:
        decider = Decider(log, CODEC, rules)
        running = asyncio.create_task(decider.run())
        ready = asyncio.create_task(decider.is_ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        print("ready", flush=True)
        await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
