"""Faust as the engine of the live projector: it reads and hands on, and owns no delivery semantics.

The positions are Postgres': `perform_seek` goes to them after every assignment, records are never acknowledged, and
Faust's own offsets are hints nobody looks at. Where Faust drops a record at a rebalance, the store notices the gap.
"""

# Faust's annotations are loose; its objects stay inside this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false, reportUnknownParameterType=false
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, cast

import faust
from faust.tables import TableManager
from faust.transport.drivers import aiokafka as driver

from diurna_projections.records import PROJECTED
from diurna_streams.log.port import Record, TopicPartition, present
from diurna_streams.log.quiet import CLIENTS, quieten
from diurna_streams.project.options import ProjectorOptions

Positions = Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Where to read on, for each partition."""
Sink = Callable[[Record], Awaitable[None]]

_SESSION_TIMEOUT_SECONDS: Final = 6.0
_HEARTBEAT_SECONDS: Final = 1.0
_REQUEST_TIMEOUT_SECONDS: Final = 10.0
_METADATA_MAX_AGE_MS: Final = 2_000
"""Otherwise a topic that is made later appears after five minutes."""


class _Consumer(driver.Consumer):
    """A consumer that goes where Postgres says."""

    positions: ClassVar[Positions | None] = None

    async def perform_seek(self) -> None:
        """Runs after every assignment; a seek at any other moment is overwritten, or stalls."""
        positions = type(self).positions
        if positions is None:
            raise RuntimeError("a consumer without positions: the app was not made by `running`")
        assigned = {TopicPartition(place.topic, place.partition): place for place in self.assignment()}
        if not assigned:
            return
        following = await positions(list(assigned))
        await self.seek_wait({assigned[place]: offset for place, offset in following.items()})
        for place, offset in following.items():
            self._read_offset[assigned[place]] = offset or None
            self._committed_offset[assigned[place]] = offset or None


class _PromptTableManager(TableManager):
    """There are no tables, so nothing is worth the second that Faust waits for them."""

    async def sleep(self, n: Any, **_: Any) -> None:
        """Does not sleep."""


class _App(faust.App):
    """Keeps no files."""

    def _create_directories(self) -> None:
        """Makes no folders: a killed projector would leave them behind, empty."""


def _app(options: ProjectorOptions, positions: Positions, sink: Sink) -> Any:
    app = _App(
        options.group,
        broker=";".join(f"aiokafka://{server.strip()}" for server in options.bootstrap_servers.split(",")),
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        broker_session_timeout=_SESSION_TIMEOUT_SECONDS,
        broker_heartbeat_interval=_HEARTBEAT_SECONDS,
        broker_request_timeout=_REQUEST_TIMEOUT_SECONDS,
        consumer_metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=options.member or "",
        TableManager=_PromptTableManager,
    )

    class Consumer(_Consumer):
        pass

    class Transport(driver.Transport):
        pass

    Consumer.positions = positions
    Transport.Consumer = Consumer
    app.transport = Transport(app.conf.broker_consumer, app)

    @app.agent(app.topic(*PROJECTED, key_type=bytes, value_type=bytes, acks=False))
    async def project(stream: faust.StreamT[bytes]) -> None:
        async for event in cast("Any", stream).events():
            message = event.message
            await sink(
                Record(
                    message.topic,
                    message.partition,
                    message.offset,
                    round(message.timestamp * 1000),
                    message.key,
                    message.value,
                    present(message.headers or ()),
                )
            )

    return app


@asynccontextmanager
async def running(options: ProjectorOptions, positions: Positions, sink: Sink) -> AsyncGenerator[None]:
    """Runs an app of its own as long as the block: an app cannot be started twice.

    `sink` is given each record, in order within its partition; it must not raise.
    """
    quieten(_NOISY)
    app = _app(options, positions, sink)
    try:
        await app.start()
        yield
    finally:
        await app.stop()


_NOISY: Final = (
    *CLIENTS,
    "faust.transport.consumer",
    "faust.transport.drivers.aiokafka",
    "faust.app.base",
    "faust.agents.manager",
    "faust.assignor.partition_assignor",
    "mode",
)
