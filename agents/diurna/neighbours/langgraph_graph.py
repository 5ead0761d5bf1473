"""A compiled LangGraph graph as a handler. LangGraph itself is not imported: whoever has a graph has it loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, cast, get_type_hints

from pydantic import BaseModel

from diurna.neighbours.exchange import (
    NEEDS_PERSON,
    Handler,
    ToInput,
    ToResult,
    answer,
    input_of,
    result_of,
    unchanged,
    without_others,
)
from diurna.workers import Context
from diurna_schemas.errors import InvalidInput
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus

_INTERRUPTS: Final = "__interrupt__"
_QUESTION_CHARACTERS_MAX: Final = 1_000


class CompiledGraph(Protocol):
    """As much of a compiled graph as is used here."""

    checkpointer: Any

    async def ainvoke(self, input: Any, config: Any = None, *, context: Any = None) -> Any:  # noqa: A002
        """Runs it to its end, or to an interrupt."""
        ...

    async def aget_state(self, config: Any) -> Any:
        """The state its checkpointer keeps for a thread."""
        ...


def from_langgraph(
    graph: Any,
    *,
    to_input: ToInput | None = None,
    to_result: ToResult = unchanged,
    context: Callable[[Context], Any] = unchanged,
) -> Handler:
    """A handler that runs a compiled graph: the payload is its input, its last state is the result.

    The fields of the payload must be those of the graph's input; `to_input` makes another one of the request.
    `to_result` is given the last state. Nodes find `diurna.Context` as their `Runtime.context`, or what `context` makes
    of it. With a checkpointer each request is a thread of its own, named by its id: another attempt at a request goes
    on where the one before it stopped. A graph that stops for a person is answered with an error whose code is
    "needs_person".
    Raises `InvalidInput` where it is no compiled graph, or one with breakpoints.
    """
    compiled = _compiled(graph)

    async def handle(request: AgentRequestEvent, about: Context) -> AgentResponseEvent:
        given = _given(graph, request) if to_input is None else input_of(request, to_input)
        config = {
            "run_name": f"{about.agent_id} {request.request_type}",
            "configurable": {"thread_id": request.request_id},
            "metadata": {
                "request_id": request.request_id,
                "correlation_id": request.correlation_id,
                "traceparent": about.traceparent,
            },
        }
        if about.attempt > 1 and compiled.checkpointer and (await compiled.aget_state(config)).created_at is not None:
            given = None
        state = await compiled.ainvoke(given, config, context=context(about))
        if isinstance(state, dict) and _INTERRUPTS in state:
            return _stopped(request, cast("dict[str, Any]", state))
        return answer(request, AgentResponseStatus.SUCCESS, result=result_of(state, to_result))

    return handle


def _compiled(graph: Any) -> CompiledGraph:
    if all(callable(getattr(graph, name, None)) for name in ("ainvoke", "aget_state")):
        for name in ("interrupt_before_nodes", "interrupt_after_nodes"):
            if stops := getattr(graph, name, None):
                # It would end there as if it were done: nothing in the state tells a breakpoint from the end.
                raise InvalidInput("graph", stops, "a request cannot go on after a breakpoint; use `interrupt()`")
        return cast("CompiledGraph", graph)
    hint = "compile it first: graph.compile()" if callable(getattr(graph, "compile", None)) else "with `ainvoke`"
    raise InvalidInput("graph", graph, f"a compiled LangGraph graph is needed, {hint}")


def _given(graph: Any, request: AgentRequestEvent) -> Any:
    """The payload, held to the graph's own input: LangGraph would leave out in silence what it does not know."""
    schema: Any = getattr(getattr(graph, "builder", None), "input_schema", None)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        without_others(request, set(schema.model_fields))
        return input_of(request, lambda given: schema.model_validate(given.payload))
    if isinstance(schema, type) and (names := set(get_type_hints(cast("type[object]", schema)))):
        without_others(request, names)
    return request.payload


def _stopped(request: AgentRequestEvent, state: dict[str, Any]) -> AgentResponseEvent:
    questions = "; ".join(str(one.value) for one in state[_INTERRUPTS])[:_QUESTION_CHARACTERS_MAX]
    so_far = {name: value for name, value in state.items() if name != _INTERRUPTS}
    return answer(
        request,
        AgentResponseStatus.ERROR,
        result=result_of(so_far, unchanged),
        error=f"the graph stopped for a person, and a request has none: {questions}",
        metadata={"code": NEEDS_PERSON},
    )
