"""What an agent does with which request: the handlers, how they are called, and what their ends mean."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from diurna.documents import json_text, json_value
from diurna.redaction import PATTERNS, Redactor
from diurna_schemas.agents import ResponseStatus
from diurna_schemas.errors import InvalidInput, shown
from diurna_schemas.ids import checked_name
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent

Handler = Callable[..., Any]
AnyHandler = TypeVar("AnyHandler", bound=Handler)

ERROR_CHARACTERS_MAX: Final = 2_000


class Rejected(Exception):
    """A handler raises it to say that it will not do what was asked: the answer has the status "rejected"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a handler ended."""

    status: ResponseStatus
    result: str | None = None
    error: str | None = None
    metadata: str = "{}"


class Handlers:
    """The handlers of one agent by request type. Those that are no coroutines run in threads, at most `threads`.

    With a `redactor`, what they return is masked before it goes to the log; errors are masked in any case.
    """

    def __init__(self, agent_id: str, threads: int, redactor: Redactor | None = PATTERNS) -> None:
        self._agent_id = agent_id
        self._redactor = redactor
        self._by_type: dict[str, Handler] = {}
        self._defaults: dict[str, Handler] = {}
        self._threads = ThreadPoolExecutor(max(1, threads), thread_name_prefix=f"{agent_id}-handler")

    @property
    def types(self) -> list[str]:
        return sorted(self._by_type.keys() | self._defaults.keys())

    @property
    def own_types(self) -> list[str]:
        """Those the author wrote handlers for."""
        return sorted(self._by_type)

    def add(self, request_types: Iterable[str], handler: Handler) -> None:
        """Raises `InvalidInput` where a type has a handler already."""
        for request_type in map(str, request_types):
            if checked_name("request_type", request_type) in self._by_type:
                raise InvalidInput("request_type", request_type, f"{self._agent_id} has a handler for it already")
            self._by_type[request_type] = handler

    def add_default(self, request_type: str, handler: Handler) -> None:
        """A handler for when the author has none."""
        self._defaults[request_type] = handler

    async def handle(self, request: AgentRequestEvent, context: object) -> Outcome:
        """Calls the handler. Whatever it raises becomes an outcome; being cancelled does not."""
        request_type = str(request.request_type)
        handler = self._by_type.get(request_type) or self._defaults.get(request_type)
        if handler is None:
            known = ", ".join(self.types)
            error = f"{self._agent_id} does not know the request type {shown(request_type)}, only {known}"
            return Outcome("rejected", error=error)
        try:
            return outcome_of(await self._call(handler, request, context), self._redactor)
        except Rejected as error:
            return Outcome("rejected", error=clean(error.reason, self._redactor or PATTERNS))
        except Exception as error:
            return Outcome("error", error=clean(f"{type(error).__name__}: {error}", self._redactor or PATTERNS))

    def masked(self, value: Any) -> Any:
        """A value as it may go to the log."""
        return value if self._redactor is None else self._redactor.value(value)

    def close(self) -> None:
        """Takes no more calls. A thread that is still at work cannot be stopped; it is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, handler: Handler, request: AgentRequestEvent, context: object) -> object:
        arguments = (request, context) if _takes_context(handler) else (request,)
        if inspect.iscoroutinefunction(handler):
            return await handler(*arguments)
        run = partial(copy_context().run, handler, *arguments)  # a thread has no context of its own
        result = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        return await result if inspect.isawaitable(result) else result


def outcome_of(result: object, redactor: Redactor | None = PATTERNS) -> Outcome:
    """What a handler's return value means: any JSON value, a pydantic model, or a whole AgentResponseEvent."""

    def document(field: str, value: object) -> str:
        text = json_text(field, value)
        # Masked as plain values: what else JSON can be made of, such as dataclasses, has texts inside too.
        return json_text(field, redactor.value(json_value(text))) if redactor and redactor.may_find_in(text) else text

    if isinstance(result, AgentResponseEvent):
        return Outcome(
            result.status.value,
            None if result.result is None else document("result", result.result),
            None if result.error is None else clean(result.error, redactor or PATTERNS),
            document("metadata", result.metadata),
        )
    if isinstance(result, BaseModel):
        result = result.model_dump(mode="json")
    return Outcome("success", document("result", result))


def clean(text: str, redactor: Redactor = PATTERNS) -> str:
    """An error fit for the log, which never forgets: what looks like a secret is masked, and its length is bounded."""
    text = redactor.text(text)
    return text if len(text) <= ERROR_CHARACTERS_MAX else f"{text[:ERROR_CHARACTERS_MAX]}… ({len(text)} characters)"


@lru_cache(maxsize=1_000)
def _takes_context(handler: Handler) -> bool:
    """Whether the handler has room for a second argument. Asked for every request, and looked up once."""
    parameters = inspect.signature(handler).parameters.values()
    positional = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    return len(positional) >= 2 or any(one.kind is one.VAR_POSITIONAL for one in parameters)
