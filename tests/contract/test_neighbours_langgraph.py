"""A LangGraph graph in the team: real graphs, asked through the log."""

from __future__ import annotations

import asyncio
import operator
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from diurna import AgentRequestEvent, AgentResponseEvent, Context, InvalidInput, Rejected
from diurna.neighbours import from_langgraph
from diurna.testing import Team, team


class Given(TypedDict):
    text: str


class Words(Given, total=False):
    words: Annotated[list[str], operator.add]


class Order(BaseModel):
    amount: int = Field(gt=0)
    buyer: str = ""


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


def graph_of(*steps: Any, state: Any = Words, given: Any = Given, **options: Any) -> Any:
    graph: Any = StateGraph(state, input_schema=given)
    graph.add_sequence([(f"step_{at}", step) for at, step in enumerate(steps)])
    graph.add_edge(START, "step_0")
    return graph.compile(**options)


def split(state: Words) -> dict[str, Any]:
    return {"words": state["text"].split()}


async def ask(
    memory: Team, handler: Any, payload: dict[str, Any] | None = None, *, instances: int = 1, **more: Any
) -> AgentResponseEvent:
    name = f"neighbour-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        for _ in range(instances):
            agent = memory.agent(name)
            agent.on_request("work")(handler)
            await stack.enter_async_context(agent.running())
        bus = await stack.enter_async_context(memory.bus())
        return await bus.request_agent(
            AgentRequestEvent(
                source_agent="tester", target_agent=name, request_type="work", payload=payload or {}, **more
            )
        )


async def test_the_payload_is_its_input_and_its_last_state_the_result(memory: Team) -> None:
    answer = await ask(memory, from_langgraph(graph_of(split)), {"text": "ave munde"})
    assert (answer.status, answer.result) == ("success", {"text": "ave munde", "words": ["ave", "munde"]})


async def test_both_sides_can_be_given_another_shape(memory: Team) -> None:
    handler = from_langgraph(
        graph_of(split),
        to_input=lambda request: {"text": request.payload["title"]},
        to_result=lambda state: len(state["words"]),
    )
    assert (await ask(memory, handler, {"title": "one two three"})).result == 3
    missing = await ask(memory, handler, {})
    assert (missing.status, missing.error) == ("rejected", "title: the payload needs this field, and has none")


async def test_its_nodes_know_the_team(memory: Team) -> None:
    async def tell(state: Words, runtime: Runtime[Context]) -> dict[str, Any]:
        await runtime.context.report("counting", {"letters": len(state["text"])})
        return {"words": [runtime.context.request.source_agent]}

    answer = await ask(memory, from_langgraph(graph_of(tell)), {"text": "abc"}, correlation_id="told-1")
    assert answer.result["words"] == ["tester"]
    reports = [event for event in memory.events("broadcasts") if "told-1" in str(event)]
    assert [event["data"]["step"] for event in reports] == ["counting"], memory.events("broadcasts")


async def test_a_graph_may_have_a_context_of_its_own(memory: Team) -> None:
    async def tell(state: Words, runtime: Runtime[str]) -> dict[str, Any]:
        return {"words": [runtime.context]}

    handler = from_langgraph(graph_of(tell), context=lambda about: f"attempt {about.attempt}")
    assert (await ask(memory, handler, {"text": ""})).result["words"] == ["attempt 1"]


async def test_messages_and_models_become_json(memory: Team) -> None:
    async def reply(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"You said: {state['messages'][-1].content}")]}

    handler = from_langgraph(graph_of(reply, state=MessagesState, given=MessagesState))
    answer = await ask(memory, handler, {"messages": [{"role": "user", "content": "hi"}]})
    assert [(one["type"], one["content"]) for one in answer.result["messages"]] == [
        ("human", "hi"),
        ("ai", "You said: hi"),
    ]


async def test_a_function_that_is_a_graph_joins_too(memory: Team) -> None:
    @entrypoint()
    async def double(given: dict[str, int]) -> int:
        return given["number"] * 2

    assert (await ask(memory, from_langgraph(double), {"number": 21})).result == 42


async def test_what_the_payload_has_wrong_is_rejected_with_its_name(memory: Team) -> None:
    unknown = await ask(memory, from_langgraph(graph_of(split)), {"text": "a", "txet": "b"})
    assert (unknown.status, unknown.error) == ("rejected", "txet: there is no such field, only text; got 'b'")

    async def sell(state: Order) -> dict[str, Any]:
        return {"buyer": state.buyer.upper()}

    sale = from_langgraph(graph_of(sell, state=Order, given=Order))
    assert (await ask(memory, sale, {"amount": 2, "buyer": "ada"})).result == {"amount": 2, "buyer": "ADA"}
    too_few = await ask(memory, sale, {"amount": 0})
    assert (too_few.status, too_few.error) == ("rejected", "amount: input should be greater than 0, got 0")
    other = await ask(memory, sale, {"amount": 1, "colour": "red"})
    assert other.error == "colour: there is no such field, only amount, buyer; got 'red'"


async def test_a_node_that_breaks_is_an_error_and_one_that_says_no_a_no(memory: Team) -> None:
    async def break_down(state: Words) -> dict[str, Any]:
        raise RuntimeError("the wheel came off")

    async def say_no(state: Words) -> dict[str, Any]:
        raise Rejected("text: not on a Sunday")

    broken = await ask(memory, from_langgraph(graph_of(break_down)), {"text": ""})
    assert (broken.status, broken.error) == ("error", "RuntimeError: the wheel came off")
    refused = await ask(memory, from_langgraph(graph_of(say_no)), {"text": ""})
    assert (refused.status, refused.error) == ("rejected", "text: not on a Sunday")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([object()], "InvalidInput: result: it cannot be written as JSON (Unable to serialize unknown type: "),
        (["x" * 300_000], "TooLarge: result: at most 262144 bytes are allowed, got '300"),
    ],
)
async def test_a_state_that_cannot_be_told_is_an_error(memory: Team, words: list[Any], said: str) -> None:
    answer = await ask(memory, from_langgraph(graph_of(lambda _: {"words": words})), {"text": ""})
    assert (answer.status, answer.result) == ("error", None)
    assert str(answer.error).startswith(said)


@pytest.mark.parametrize("checkpointer", [None, InMemorySaver()], ids=["forgetting", "keeping"])
async def test_a_graph_that_stops_for_a_person_says_so(memory: Team, checkpointer: Any) -> None:
    async def allow(state: Words) -> dict[str, Any]:
        return {"words": [interrupt({"question": "May I?"})]}

    handler = from_langgraph(graph_of(split, allow, checkpointer=checkpointer))
    answer = await ask(memory, handler, {"text": "a"})
    assert (answer.status, answer.metadata["code"]) == ("error", "needs_person")
    assert answer.error == "the graph stopped for a person, and a request has none: {'question': 'May I?'}"
    assert answer.result == {"text": "a", "words": ["a"]}


async def test_another_attempt_goes_on_where_the_one_before_it_stopped(memory: Team) -> None:
    seen: list[str] = []

    async def begin(state: Words) -> dict[str, Any]:
        seen.append("begin")
        return {"words": ["begun"]}

    async def finish(state: Words) -> dict[str, Any]:
        seen.append("finish")
        if seen.count("finish") == 1:
            await asyncio.Event().wait()
        return {"words": ["finished"]}

    handler = from_langgraph(graph_of(begin, finish, checkpointer=InMemorySaver()))
    answer = await ask(memory, handler, {"text": ""}, instances=2, attempt_timeout_seconds=0.5, timeout_seconds=20)
    assert (answer.status, answer.metadata["attempt"]) == ("success", 2)
    assert (answer.result["words"], seen) == (["begun", "finished"], ["begin", "finish", "finish"])


async def test_a_graph_that_takes_too_long_is_ended_in_time(memory: Team) -> None:
    ended = asyncio.Event()

    async def wait(state: Words) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    answer = await ask(memory, from_langgraph(graph_of(wait)), {"text": ""}, timeout_seconds=0.3, attempts_max=1)
    assert answer.status == "timeout"
    async with asyncio.timeout(10):
        await ended.wait()


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (StateGraph(Words), "graph: a compiled LangGraph graph is needed, compile it first: graph.compile(), got "),
        (lambda state: state, "graph: a compiled LangGraph graph is needed, with `ainvoke`, got "),
        (
            graph_of(split, split, checkpointer=InMemorySaver(), interrupt_before=["step_1"]),
            "graph: a request cannot go on after a breakpoint; use `interrupt()`, got ",
        ),
        (graph_of(split, interrupt_after="*"), "graph: a request cannot go on after a breakpoint"),
    ],
    ids=["not compiled", "a function", "breakpoint before", "breakpoints after"],
)
def test_what_is_no_runnable_graph_is_refused(graph: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_langgraph(graph)
    assert str(refused.value).startswith(said)
