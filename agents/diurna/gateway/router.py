"""All routes that write, and the live stream, as one router."""

from __future__ import annotations

from fastapi import APIRouter

from diurna.connection import Connection
from diurna.gateway import agents, dead_letters, events, locks, requests, workflow_state, workflows
from diurna.gateway.reads import Reads
from diurna.gateway.routing import Gateway, ProblemRoute


def write_router(connection: Connection, reads: Reads) -> APIRouter:
    """The routes on this connection. Nothing is written where the answer is a problem."""
    router = APIRouter(route_class=ProblemRoute)
    gateway = Gateway(connection, reads)
    for part in (agents, requests, events, locks, workflows, workflow_state, dead_letters):
        part.add_routes(router, gateway)
    return router
