"""Drives one graph on its thread to its end: from the beginning, or from the last checkpoint of a run before this one.

A part that does not answer, a thread another worker is at, a workflow that is paused: all of these pass. Then the run
goes on from the last checkpoint, whoever made it. So two workers at one workflow do no harm, and end with the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from diurna_schemas.errors import Conflict, NotFound, Unavailable
from diurna_workflows.journal import PAUSED
from diurna_workflows.state import JsonObject

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS: Final = 3_600.0
"""So long a run waits in vain for what does not answer."""
_WAIT_SECONDS_MAX: Final = 10.0
_INTERRUPT: Final = "__interrupt__"
"""LangGraph's name for what a stream says of nodes that wait for an answer."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a node added to the state."""

    node: str
    update: JsonObject


Told = Callable[[Step], None]
Ask = Callable[[JsonObject], Awaitable[JsonObject]]
"""Answers what a node wants to know of somebody outside of the graph."""


class Snapshot(Protocol):
    """The state of a graph at a checkpoint."""

    @property
    def next(self) -> tuple[str, ...]: ...

    @property
    def config(self) -> RunnableConfig: ...


class Graph(Protocol):
    """A compiled graph."""

    @property
    def nodes(self) -> Mapping[str, Any]: ...

    @property
    def astream(self) -> Callable[..., AsyncIterator[Any]]: ...

    async def aget_state(self, config: RunnableConfig) -> Snapshot: ...

    def aget_state_history(self, config: RunnableConfig) -> AsyncIterator[Snapshot]: ...


async def drive(
    graph: Graph,
    workflow_id: str,
    beginning: JsonObject,
    *,
    saver: BaseCheckpointSaver[Any] | None,
    told: Told,
    ask: Ask | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> JsonObject:
    """Runs the graph to its end and returns its state. `beginning` is the state it begins with, where it begins.

    What interrupts the graph is answered by `ask`, and the graph goes on with the answer.

    Each step's checkpoint is durable before the next step begins: what a node asks for is named by its checkpoint, and
    a run that is resumed must find that one.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_passes),
        wait=wait_exponential_jitter(multiplier=0.1, max=_WAIT_SECONDS_MAX),
        stop=_Patience(patience_seconds),
        before_sleep=_tell,
        reraise=True,
    ):
        with attempt:
            return await _run(graph, workflow_id, beginning, saver, told=told, ask=ask)
    raise AssertionError("unreachable: the last attempt raises")


async def found_state(
    saver: BaseCheckpointSaver[Any], workflow_id: str, checkpoint_id: str | None = None
) -> JsonObject | None:
    """The state at a checkpoint of a workflow, the last unless told otherwise; none where there is none."""
    found = await saver.aget_tuple(config_of(workflow_id, checkpoint_id))
    if found is None:
        return None
    values = found.checkpoint["channel_values"]
    # The first checkpoint of all holds the input as LangGraph was given it.
    return cast("JsonObject", values.get("__start__", values))


async def state_of(saver: BaseCheckpointSaver[Any], workflow_id: str, checkpoint_id: str | None = None) -> JsonObject:
    """As `found_state`. Raises `NotFound` where there is none."""
    state = await found_state(saver, workflow_id, checkpoint_id)
    if state is None:
        raise NotFound("checkpoint", workflow_id if checkpoint_id is None else f"{workflow_id}/{checkpoint_id}")
    return state


def config_of(workflow_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    """Where the thread of a workflow is, as LangGraph takes it."""
    where = {"thread_id": workflow_id, "checkpoint_ns": ""}
    if checkpoint_id is not None:
        where["checkpoint_id"] = checkpoint_id
    return {"configurable": where}


async def _run(
    graph: Graph,
    workflow_id: str,
    beginning: JsonObject,
    saver: BaseCheckpointSaver[Any] | None,
    *,
    told: Told,
    ask: Ask | None,
) -> JsonObject:
    begins = saver is None or await saver.aget_tuple(config_of(workflow_id)) is None
    given: Any = beginning if begins else None
    while True:
        state, interrupts = await _until_it_waits(graph, workflow_id, given, told, is_kept=saver is not None)
        if not interrupts:
            return state
        given = await _answered(interrupts, ask)


async def _until_it_waits(
    graph: Graph, workflow_id: str, given: Any, told: Told, *, is_kept: bool
) -> tuple[JsonObject, list[Any]]:
    """Runs to the end, or to where every node waits: the state, and what interrupted it."""
    options = {"durability": "sync"} if is_kept else {}
    state: JsonObject = {}
    interrupts: list[Any] = []
    async for mode, content in graph.astream(
        given, config_of(workflow_id), stream_mode=["updates", "values"], **options
    ):
        if mode == "values":
            state = content
            continue
        interrupts += content.get(_INTERRUPT, ())
        for node, update in content.items():
            if node != _INTERRUPT:
                told(Step(node, update or {}))
    return state, interrupts


async def _answered(interrupts: list[Any], ask: Ask | None) -> Any:
    """What the graph goes on with: each question's answer, by its id."""
    from langgraph.types import Command  # loaded with the first graph

    if ask is None:
        raise Conflict("the workflow waits for an answer, and nobody is there to be asked")
    answers = await asyncio.gather(*(ask(one.value) for one in interrupts))
    return Command(resume={one.id: answer for one, answer in zip(interrupts, answers, strict=True)})


class _Patience:
    """Ends a run that has waited in vain for so long. While it works, or is paused, it does not wait in vain."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._was_paused = False
        self._seen = self._in_vain = 0.0

    def __call__(self, state: RetryCallState) -> bool:
        if not self._was_paused:
            self._in_vain += state.idle_for - self._seen
        self._seen = state.idle_for
        self._was_paused = state.outcome is not None and _is_paused(state.outcome.exception())
        return not self._was_paused and self._in_vain >= self._seconds


def _passes(error: BaseException) -> bool:
    if isinstance(error, Conflict):
        return _is_paused(error) or error.code.startswith("thread_")
    return isinstance(error, Unavailable)


def _is_paused(error: BaseException | None) -> bool:
    return isinstance(error, Conflict) and error.code == PAUSED


def _tell(state: RetryCallState) -> None:
    error = None if state.outcome is None else state.outcome.exception()
    logger.warning("a workflow goes on from its last checkpoint", attempt=state.attempt_number, error=str(error))
