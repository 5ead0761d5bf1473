"""Dead letters over HTTP: decided again as new commands once they can be understood, or given up."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from diurna.documents import validated
from diurna.gateway.reads import looked_up
from diurna.gateway.routing import Body, FirstAnswers, Gateway, answer, takes
from diurna.problems import body_of
from diurna.responses import command_id_of
from diurna_schemas.errors import Conflict, UnknownSchema, Unreadable
from diurna_schemas.ids import Name, Position
from diurna_schemas.message import Command, Text
from diurna_schemas.records import DeadLetterSettled
from diurna_schemas.topics import FAMILIES

_COMMANDS = frozenset(family.commands for family in FAMILIES)


class SettleBody(Body):
    """Who decides, and why."""

    settled_by: Name
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class _Letter:
    """What there is to decide about."""

    id: str
    source: Position
    value: bytes

    @classmethod
    async def found(cls, gateway: Gateway, letter_id: str) -> _Letter:
        """Raises `NotFound`, and `Conflict` where it was settled before."""
        Position.parse(letter_id, field="id")
        document = await looked_up("dead letter", letter_id, gateway.reads.dead_letter)
        if document["status"] != "open":
            raise Conflict(f"dead letter {letter_id} was {document['status']} by {document['settled_by']} before")
        source = Position(document["topic"], document["partition"], document["offset"])
        return cls(letter_id, source, base64.b64decode(document["value_base64"] or ""))


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /dead-letters/{id}/redrive and /discard."""
    answers = FirstAnswers()

    @router.post("/dead-letters/{letter_id}/redrive", tags=["operations"], openapi_extra=takes(SettleBody))
    async def redrive(request: Request, letter_id: str) -> Response:
        """Decides the command in it as a new one, with an id of its own: the same letter twice is one command.

        409 where it still cannot be understood, holds no command, was refused, or was settled before.
        """
        given = validated(SettleBody, await body_of(request))
        return answer(await answers.to(request, lambda: _redriven(gateway, request, letter_id, given)))

    @router.post("/dead-letters/{letter_id}/discard", tags=["operations"], openapi_extra=takes(SettleBody))
    async def discard(request: Request, letter_id: str) -> Response:
        """Gives it up: it stays on the log and in the tables, and is no longer open."""
        given = validated(SettleBody, await body_of(request))
        return answer(await answers.to(request, lambda: _discarded(gateway, letter_id, given)))


async def _redriven(gateway: Gateway, request: Request, letter_id: str, given: SettleBody) -> dict[str, Any]:
    letter = await _Letter.found(gateway, letter_id)
    if letter.source.topic not in _COMMANDS:
        raise Conflict(f"{letter_id} is no command: what is on the log is projected again by a rebuild")
    command = await _command(gateway, letter)
    answered = await gateway.connection.answer(command, traceparent=request.headers.get("traceparent"))
    position = await _settle(gateway, letter, "redriven", given, answered_at=str(answered.position))
    return {"id": letter_id, "status": "redriven", "answered_at": str(answered.position), **position}


async def _discarded(gateway: Gateway, letter_id: str, given: SettleBody) -> dict[str, Any]:
    letter = await _Letter.found(gateway, letter_id)
    return {"id": letter_id, "status": "discarded", **await _settle(gateway, letter, "discarded", given)}


async def _command(gateway: Gateway, letter: _Letter) -> Command:
    connection = gateway.connection
    try:
        try:
            found = connection.codec.decode(letter.value)
        except UnknownSchema as error:
            if connection.learn is None:
                raise
            await connection.learn(error.schema_id)
            found = connection.codec.decode(letter.value)
    except Unreadable as error:
        raise Conflict(f"{letter.id} still cannot be understood: {error}") from error
    if not isinstance(found, Command) or found.is_tick or found.topic != letter.source.topic:
        raise Conflict(f"{letter.id} holds a {type(found).__name__}: that is no command of {letter.source.topic}")
    return found.model_copy(update={"command_id": command_id_of("redrive", letter.id)})


async def _settle(
    gateway: Gateway,
    letter: _Letter,
    verdict: Literal["redriven", "discarded"],
    given: SettleBody,
    *,
    answered_at: str | None = None,
) -> dict[str, Any]:
    settled = DeadLetterSettled(
        topic=letter.source.topic,
        partition=letter.source.partition,
        offset=letter.source.offset,
        verdict=verdict,
        settled_by=given.settled_by,
        reason=given.reason,
        answered_at=answered_at,
        at_ms=gateway.connection.clock_ms(),
    )
    return {"position": str(await gateway.connection.sender.settle_dead_letter(settled))}
