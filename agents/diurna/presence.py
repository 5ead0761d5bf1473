"""The life of an instance on the log: registered, heard from, and at the end gone."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from diurna.connection import Connection
from diurna_schemas.agents import STALE_AFTER_MS, ChangeStatus, DeregisterAgent, Heartbeat, RegisterAgent
from diurna_schemas.errors import DiurnaError, Unavailable

_log = structlog.get_logger(__name__)

REGISTER_SECONDS_MAX: Final = 120.0
_ATTEMPT_SECONDS: Final = 15.0
_LEAVE_SECONDS: Final = 5.0


class Presence:
    """Registers an instance, sends its heartbeats, and registers it again when the log took it for dead."""

    def __init__(
        self,
        connection: Connection,
        registration: Callable[[], RegisterAgent],
        in_flight: Callable[[], int],
        heartbeat_seconds: float,
    ) -> None:
        self._connection = connection
        self._registration = registration
        self._in_flight = in_flight
        self._heartbeat_seconds = heartbeat_seconds
        self._registered: RegisterAgent | None = None
        self._last_sign = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_to_register = False
        self.is_leaving = False

    @property
    def is_alive(self) -> bool:
        """Whether the log has heard of this instance lately."""
        return self._registered is not None and (time.monotonic() - self._last_sign) * 1000 < STALE_AFTER_MS

    async def begin(self) -> None:
        """Registers; then heartbeats follow by themselves. Raises `Unavailable` after two minutes without an answer."""
        await self._register()
        await self._beat()
        self._spawn(self._beats(), "diurna-heartbeats")

    def renew(self) -> None:
        """Registers again, in the background."""
        if not self.is_leaving:
            self._spawn(self._register_quietly(), "diurna-register-again")

    async def pause(self) -> None:
        """Takes no new requests, as the log sees it."""
        self.is_leaving = True
        if (registered := self._registered) is not None:
            await self._ask_quietly(
                ChangeStatus(
                    command_id=str(uuid.uuid4()),
                    agent_id=registered.agent_id,
                    instance_id=registered.instance_id,
                    status="offline",
                    reason="shutting down",
                )
            )

    async def end(self) -> None:
        """Is gone."""
        self.is_leaving = True
        for task in tuple(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if (registered := self._registered) is not None:
            self._registered = None
            await self._ask_quietly(
                DeregisterAgent(
                    command_id=str(uuid.uuid4()),
                    agent_id=registered.agent_id,
                    instance_id=registered.instance_id,
                    reason="shut down",
                )
            )

    async def _register(self) -> None:
        command = self._registration()
        # The deciders may come up after the agents; the same command again is one registration.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(REGISTER_SECONDS_MAX),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            reraise=True,
        )
        await retrying(self._connection.ask, command, timeout=_ATTEMPT_SECONDS)
        self._registered = command
        self._last_sign = time.monotonic()

    async def _register_quietly(self) -> None:
        self._is_to_register = False
        try:
            await self._register()
        except DiurnaError as error:
            self._is_to_register = True
            _log.error("registering again failed; the next heartbeat tries once more", error=str(error))

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            if self._is_to_register:
                await self._register_quietly()
            try:
                await self._beat()
            except DiurnaError as error:
                _log.warning("a heartbeat was not written", error=str(error))

    async def _beat(self) -> None:
        registered = self._registered
        if registered is None:
            return
        in_flight = self._in_flight()
        await self._connection.sender.heartbeat(
            Heartbeat(
                agent_id=registered.agent_id,
                instance_id=registered.instance_id,
                in_flight=in_flight,
                status="busy" if in_flight >= registered.concurrency else "active",
                sent_at_ms=self._connection.clock_ms(),
            )
        )
        self._last_sign = time.monotonic()

    async def _ask_quietly(self, command: ChangeStatus | DeregisterAgent) -> None:
        try:
            await self._connection.ask(command, timeout=_LEAVE_SECONDS)
        except DiurnaError as error:
            _log.warning("could not say goodbye", command=command.type_name, error=str(error))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
