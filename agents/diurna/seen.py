"""An event as a tail sees it: the headers at once, the record itself only for those who want it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from diurna_schemas.codec import Codec, schema_id_of
from diurna_schemas.errors import DiurnaError, Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.message import Part
from diurna_streams.log import Record

_log = structlog.get_logger(__name__)

Learn = Callable[[int], Awaitable[None]]
"""Asks a registry for a schema id the codec does not know, and makes it known."""


class Seen:
    """A record with its headers read. Decoding waits until somebody asks: most events are of no interest here."""

    __slots__ = ("_codec", "_decoded", "_headers", "record")

    def __init__(self, record: Record, codec: Codec) -> None:
        self.record = record
        self._codec = codec
        self._headers = dict(record.headers)
        self._decoded: Part | None = None

    @property
    def type_name(self) -> str:
        return self.header("ce_type") or ""

    @property
    def subject(self) -> str:
        return self.header("ce_subject") or ""

    @property
    def command_id(self) -> str | None:
        """The command that caused the event."""
        return self.header("causationid")

    @property
    def correlation_id(self) -> str | None:
        return self.header("correlationid")

    @property
    def id(self) -> str:
        return self.header("ce_id") or str(self.record.position)

    @property
    def position(self) -> Position:
        return self.record.position

    def header(self, name: str) -> str | None:
        """The text of a header, none where it is missing."""
        value = self._headers.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    def decoded(self) -> Part:
        """The record. Raises `Unreadable` where its bytes mean nothing."""
        if self._decoded is None:
            self._decoded = self._codec.decode(self.record.value)
        return self._decoded

    async def learned(self, learn: Learn) -> None:
        """Has the schema of the record learned where it is a new one."""
        try:
            schema_id = schema_id_of(self.record.value)
            if not self._codec.knows(schema_id):
                await learn(schema_id)
        except Unreadable:
            return  # who decodes it is told
        except DiurnaError as error:
            _log.warning("a schema could not be learned", position=str(self.position), error=str(error))
