"""A projector as a process of its own, to be killed: `python projector_process.py BOOTSTRAP DATABASE BULK_LAG`."""

from __future__ import annotations

import asyncio
import sys

from diurna_schemas.codec import Codec
from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.projector import run_projector


async def main(bootstrap_servers: str, database_url: str, bulk_lag_records: str) -> None:
    options = ProjectorOptions(
        bootstrap_servers=bootstrap_servers,
        database_url=database_url,
        member="projector",
        bulk_lag_records=int(bulk_lag_records),
    )
    await run_projector(options, codec=Codec.numbered())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
