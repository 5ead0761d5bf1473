"""The HTTP door through which writes reach the log, and the live stream out of it.

`write_router(connection, reads)` is mounted by the server beside the routes that read.
"""

from diurna.gateway.reads import Reads
from diurna.gateway.router import write_router

__all__ = ["Reads", "write_router"]
