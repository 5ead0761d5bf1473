"""What every adapter does alike: makes the input of a request, and the answer of what came out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from diurna.documents import invalid
from diurna.handlers import Rejected
from diurna.workers import Context
from diurna_schemas.errors import InvalidInput, Refused, shown
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus

Handler = Callable[[AgentRequestEvent, Context], Awaitable[AgentResponseEvent]]
"""What `Agent.on_request` takes."""
ToInput = Callable[[AgentRequestEvent], Any]
ToResult = Callable[[Any], Any]

NEEDS_PERSON = "needs_person"
"""The code of an answer that would have to wait for somebody's decision."""


def payload_of(request: AgentRequestEvent) -> Any:
    """The payload as it is."""
    return request.payload


def unchanged(result: Any) -> Any:
    """The result as it is."""
    return result


def input_of(request: AgentRequestEvent, to_input: ToInput) -> Any:
    """What the neighbour is given. What the payload lacks, or has wrong, is a no that names it."""
    try:
        return to_input(request)
    except KeyError as error:
        name = error.args[0] if error.args else None
        if not isinstance(name, str) or name in request.payload:
            raise
        raise Rejected(f"{name}: the payload needs this field, and has {named(request.payload)}") from error
    except ValidationError as error:
        raise Rejected(str(invalid(error))) from error
    except Refused as error:
        raise Rejected(str(error)) from error


def without_others(request: AgentRequestEvent, known: set[str]) -> None:
    """Raises `Rejected` where the payload has a field nobody would read."""
    for name, value in request.payload.items():
        if name not in known:
            raise Rejected(f"{name}: there is no such field, only {named(known)}; got {shown(value)}")


def result_of(came_out: Any, to_result: ToResult) -> Any:
    """The result as plain JSON values: models, messages and data classes are opened.

    Raises `InvalidInput` where it holds what JSON cannot say.
    """
    result = to_result(came_out)
    try:
        return to_jsonable_python(result)
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidInput("result", result, f"it cannot be written as JSON ({error})") from error


def answer(
    request: AgentRequestEvent,
    status: AgentResponseStatus,
    *,
    result: Any = None,
    error: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> AgentResponseEvent:
    """The answer to a request."""
    return AgentResponseEvent(
        request_id=request.request_id,
        source_agent=request.target_agent,
        target_agent=request.source_agent,
        status=status,
        result=result,
        error=error,
        metadata=dict(metadata or {}),
    )


def named(names: Mapping[str, Any] | set[str]) -> str:
    """Names as an error lists them, at most twenty."""
    found = sorted(names)
    return ", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "") or "none"
