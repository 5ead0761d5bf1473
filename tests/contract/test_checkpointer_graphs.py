"""Real graphs on the saver do what they do on LangGraph's own: the same states, histories, interrupts and branches."""

from __future__ import annotations

import asyncio
import operator
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from diurna_schemas.errors import Conflict, Unavailable
from support.savers import Savers

pytestmark = pytest.mark.timeout(120)

Durability = Literal["sync", "async", "exit"]
DURABILITIES: list[Durability] = ["sync", "async", "exit"]
Run = Callable[[BaseCheckpointSaver[str], dict[str, Any], Durability], Awaitable[Any]]


class State(TypedDict, total=False):
    """What the graphs here know."""

    numbers: Annotated[list[int], operator.add]
    answer: str
    items: list[int]


def chain(saver: BaseCheckpointSaver[str]) -> Any:
    graph = StateGraph(State)
    before = START
    for number in range(10):
        graph.add_node(f"n{number}", lambda _, number=number: {"numbers": [number]})
        graph.add_edge(before, f"n{number}")
        before = f"n{number}"
    graph.add_edge(before, END)
    return graph.compile(checkpointer=saver)


def asking(saver: BaseCheckpointSaver[str]) -> Any:
    def ask(_: State) -> State:
        return {"answer": interrupt("which one?"), "numbers": [1]}

    graph = StateGraph(State)
    graph.add_node("before", lambda _: {"numbers": [0]})
    graph.add_node("ask", ask)
    graph.add_node("beside", lambda _: {"numbers": [7]})
    graph.add_node("after", lambda state: {"numbers": [len(state["numbers"])]})
    graph.add_edge(START, "before")
    graph.add_edge("before", "ask")
    graph.add_edge("before", "beside")
    graph.add_edge(["ask", "beside"], "after")
    graph.add_edge("after", END)
    return graph.compile(checkpointer=saver)


def nested(saver: BaseCheckpointSaver[str]) -> Any:
    inner = StateGraph(State)
    inner.add_node("first", lambda _: {"numbers": [10]})
    inner.add_node("second", lambda _: {"answer": interrupt("inside?")})
    inner.add_edge(START, "first")
    inner.add_edge("first", "second")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_node("last", lambda _: {"numbers": [99]})
    outer.add_edge(START, "inner")
    outer.add_edge("inner", "last")
    return outer.compile(checkpointer=saver)


def spreading(saver: BaseCheckpointSaver[str]) -> Any:
    graph = StateGraph(State)
    graph.add_node("plan", lambda _: {"items": [3, 1, 2]})
    graph.add_node("work", lambda item: {"numbers": [item["one"]]})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("work", {"one": one}) for one in state["items"]], ["work"])
    graph.add_edge("work", END)
    return graph.compile(checkpointer=saver)


class Notes(TypedDict):
    """A state whose list is kept as what was added."""

    notes: Annotated[list[int], DeltaChannel(lambda found, added: found + [x for one in added for x in one], list)]


def adding(saver: BaseCheckpointSaver[str]) -> Any:
    graph = StateGraph(Notes)
    before = START
    for number in range(5):
        graph.add_node(f"n{number}", lambda _, number=number: {"notes": [number, number * 10]})
        graph.add_edge(before, f"n{number}")
        before = f"n{number}"
    return graph.compile(checkpointer=saver)


async def run_chain(saver: BaseCheckpointSaver[str], config: dict[str, Any], durability: Durability) -> Any:
    graph = chain(saver)
    final = await graph.ainvoke({"numbers": [-1]}, config, durability=durability)
    again = await graph.ainvoke({"numbers": [-2]}, config, durability=durability)
    return final, again, await history(graph, config)


async def run_asking(saver: BaseCheckpointSaver[str], config: dict[str, Any], durability: Durability) -> Any:
    graph = asking(saver)
    asked = await graph.ainvoke({"numbers": []}, config, durability=durability)
    waiting = plain(await graph.aget_state(config))
    final = await graph.ainvoke(Command(resume="this one"), config, durability=durability)
    return interrupts(asked), waiting, final, await history(graph, config)


async def run_nested(saver: BaseCheckpointSaver[str], config: dict[str, Any], durability: Durability) -> Any:
    graph = nested(saver)
    asked = await graph.ainvoke({"numbers": []}, config, durability=durability)
    inside = await graph.aget_state(config, subgraphs=True)
    values = [task.state.values for task in inside.tasks]
    final = await graph.ainvoke(Command(resume="yes"), config, durability=durability)
    return interrupts(asked), values, final, await history(graph, config)


async def run_spreading(saver: BaseCheckpointSaver[str], config: dict[str, Any], durability: Durability) -> Any:
    graph = spreading(saver)
    return await graph.ainvoke({"numbers": []}, config, durability=durability), await history(graph, config)


async def run_adding(saver: BaseCheckpointSaver[str], config: dict[str, Any], durability: Durability) -> Any:
    graph = adding(saver)
    final = await graph.ainvoke({"notes": [7]}, config, durability=durability)
    again = await graph.ainvoke({"notes": [8]}, config, durability=durability)
    return final, again, (await graph.aget_state(config)).values, await history(graph, config)


async def run_branching(saver: BaseCheckpointSaver[str], config: dict[str, Any], durability: Durability) -> Any:
    """Goes back to an older checkpoint, changes it, and goes on from there."""
    graph = chain(saver)
    await graph.ainvoke({"numbers": []}, config, durability="sync")
    states = [state async for state in graph.aget_state_history(config)]
    old = next(state for state in states if state.next == ("n5",))
    replayed = await graph.ainvoke(None, old.config, durability=durability)
    changed = await graph.aupdate_state(old.config, {"numbers": [500]})
    final = await graph.ainvoke(None, changed, durability=durability)
    return replayed, final, await history(graph, config)


async def history(graph: Any, config: dict[str, Any]) -> list[Any]:
    return [plain(state) async for state in graph.aget_state_history(config)]


def plain(state: Any) -> Any:
    """A state without what is different in every run: ids and times."""
    kept = {name: value for name, value in state.metadata.items() if name in {"source", "step"}}
    tasks = [(task.name, task.error, [one.value for one in task.interrupts], task.result) for task in state.tasks]
    return state.values, state.next, kept, sorted(tasks, key=str), state.parent_config is None


def interrupts(asked: Any) -> list[Any]:
    return [one.value for one in asked["__interrupt__"]]


RUNS: dict[str, Run] = {
    "chain": run_chain,
    "asking": run_asking,
    "nested": run_nested,
    "spreading": run_spreading,
    "adding": run_adding,
    "branching": run_branching,
}


def config_of(thread_id: str | None = None) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id or f"graph-{uuid.uuid4()}"}}


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("name", RUNS)
async def test_a_graph_does_what_it_does_on_langgraph_s_own_saver(
    savers: Savers, name: str, durability: Durability
) -> None:
    expected = await RUNS[name](InMemorySaver(), config_of(), durability)
    assert await RUNS[name](await savers(), config_of(), durability) == expected


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_another_process_goes_on_where_one_was_interrupted(savers: Savers, durability: Durability) -> None:
    config = config_of()
    one = asking(await savers())
    await one.ainvoke({"numbers": []}, config, durability=durability)
    other = asking(await savers())
    assert (await other.aget_state(config)).next == ("ask",)
    final = await other.ainvoke(Command(resume="theirs"), config, durability=durability)
    assert final["answer"] == "theirs"
    assert (await one.aget_state(config)).values == final


async def test_a_run_that_failed_goes_on_with_the_node_that_failed(savers: Savers) -> None:
    ran: list[str] = []

    def failing(saver: BaseCheckpointSaver[str], *, fails: bool) -> Any:
        def second(_: State) -> State:
            ran.append("second")
            if fails:
                raise RuntimeError("once")
            return {"numbers": [2]}

        def first(_: State) -> State:
            ran.append("first")
            return {"numbers": [1]}

        graph = StateGraph(State)
        graph.add_node("first", first)
        graph.add_node("second", second)
        graph.add_edge(START, "first")
        graph.add_edge("first", "second")
        return graph.compile(checkpointer=saver)

    config = config_of()
    with pytest.raises(RuntimeError, match="once"):
        await failing(await savers(), fails=True).ainvoke({"numbers": []}, config)
    final = await failing(await savers(), fails=False).ainvoke(None, config)
    assert final == {"numbers": [1, 2]}
    assert ran == ["first", "second", "second"]


async def test_what_finished_beside_a_failure_is_not_run_again(savers: Savers) -> None:
    ran: list[str] = []
    done = asyncio.Event()

    def graph_of(saver: BaseCheckpointSaver[str], *, fails: bool) -> Any:
        async def good(_: State) -> State:
            ran.append("good")
            done.set()
            return {"numbers": [1]}

        async def bad(_: State) -> State:
            ran.append("bad")
            await done.wait()
            await asyncio.sleep(0.05)  # so that what the other one wrote is on its way
            if fails:
                raise RuntimeError("once")
            return {"numbers": [2]}

        graph = StateGraph(State)
        graph.add_node("good", good)
        graph.add_node("bad", bad)
        graph.add_edge(START, "good")
        graph.add_edge(START, "bad")
        return graph.compile(checkpointer=saver)

    config = config_of()
    with pytest.raises(RuntimeError, match="once"):
        await graph_of(await savers(), fails=True).ainvoke({"numbers": []}, config)
    final = await graph_of(await savers(), fails=False).ainvoke(None, config)
    assert sorted(final["numbers"]) == [1, 2]
    assert sorted(ran) == ["bad", "bad", "good"]


async def test_a_pruned_delta_channel_is_still_whole(savers: Savers) -> None:
    saver, other = await savers(), await savers()
    config = config_of()
    final = await adding(saver).ainvoke({"notes": [7]}, config)
    await saver.aprune([config["configurable"]["thread_id"]])
    assert (await adding(saver).aget_state(config)).values == final
    assert (await adding(other).aget_state(config)).values == final
    again = await adding(other).ainvoke({"notes": [8]}, config)
    assert again["notes"][: len(final["notes"])] == final["notes"]


async def test_a_copied_thread_goes_on_from_its_interrupt_by_itself(savers: Savers) -> None:
    saver = await savers()
    source, target = config_of(), config_of()
    graph = asking(saver)
    await graph.ainvoke({"numbers": []}, source)
    await saver.acopy_thread(source["configurable"]["thread_id"], target["configurable"]["thread_id"])
    assert (await graph.ainvoke(Command(resume="copy"), target))["answer"] == "copy"
    assert (await graph.aget_state(source)).next == ("ask",)


async def test_a_checkpoint_is_copied_beside_itself_the_last_one_and_an_older_one(savers: Savers) -> None:
    saver, config = await savers(idle_seconds=0.05), config_of()
    graph = chain(saver)
    await graph.ainvoke({"numbers": []}, config)
    old = [state async for state in graph.aget_state_history(config)][3]
    for at in (config, old.config):
        await saver.aclose()
        saver = await savers(idle_seconds=0.05)
        graph = chain(saver)
        copied = await graph.aupdate_state(at, None, as_node="__copy__")
        assert (await graph.aget_state(copied)).values == (await graph.aget_state(at)).values
    assert (await graph.aget_state(config)).metadata["source"] == "fork"
    assert await graph.ainvoke(None, config) == {"numbers": list(range(10))}


def waiting(saver: BaseCheckpointSaver[str], reached: asyncio.Event, until: asyncio.Event) -> Any:
    async def wait(_: State) -> State:
        reached.set()
        await until.wait()
        return {"numbers": [1]}

    graph = StateGraph(State)
    graph.add_node("before", lambda _: {"answer": "kept once, as a value of its own" * 9})
    graph.add_node("wait", wait)
    graph.add_node("after", lambda _: {"numbers": [2]})
    graph.add_edge(START, "before")
    graph.add_edge("before", "wait")
    graph.add_edge("wait", "after")
    return graph.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("is_own", [True, False], ids=["by the same saver", "by another"])
async def test_a_run_whose_thread_was_deleted_does_not_bring_half_of_it_back(
    savers: Savers, is_own: bool, durability: Durability
) -> None:
    saver, config, reached, until = await savers(idle_seconds=0.05), config_of(), asyncio.Event(), asyncio.Event()
    run = asyncio.create_task(waiting(saver, reached, until).ainvoke({"numbers": []}, config, durability=durability))
    await reached.wait()
    deleting = saver if is_own else await savers()
    while not is_own and await deleting.aget_tuple(config) is None:  # type: ignore[arg-type]  # noqa: ASYNC110
        await asyncio.sleep(0)  # what another has not written yet nobody can delete
    await deleting.adelete_thread(config["configurable"]["thread_id"])
    until.set()
    with pytest.raises(Conflict, match="was deleted") as refused:
        await run
    assert refused.value.code == "deleted"
    assert await (await savers()).aget_tuple(config) is None  # type: ignore[arg-type]
    again = await waiting(saver, reached, until).ainvoke({"numbers": [7]}, config, durability=durability)
    assert again["numbers"] == [7, 1, 2]


async def test_that_somebody_looked_at_a_state_excuses_no_run_that_is_late(savers: Savers) -> None:
    one, other, config = await savers(idle_seconds=0.05), await savers(), config_of()
    reached, until, at_once = asyncio.Event(), asyncio.Event(), asyncio.Event()
    at_once.set()
    graph = waiting(one, reached, until)
    run = asyncio.create_task(graph.ainvoke({"numbers": []}, config, durability="sync"))
    await reached.wait()
    await graph.aget_state((await graph.aget_state(config)).config)
    final = await waiting(other, reached, at_once).ainvoke(None, config)
    await other.aclose()
    until.set()
    with pytest.raises(Conflict, match="moved on"):
        await run
    assert (await graph.aget_state(config)).values == final


async def test_a_graph_that_blocks_runs_on_the_blocking_twins(savers: Savers) -> None:
    saver = await savers()
    config = config_of()

    def work() -> Any:
        graph = asking(saver)
        graph.invoke({"numbers": []}, config)
        final = graph.invoke(Command(resume="blocking"), config)
        return final, len(list(graph.get_state_history(config)))

    final, states = await asyncio.to_thread(work)
    assert final["answer"] == "blocking"
    assert states == len([state async for state in asking(saver).aget_state_history(config)])


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_run_on_a_log_that_stops_answering_says_so_and_goes_on_later(
    savers: Savers, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written by then is a line without gaps, and from there a run goes on."""
    config = config_of()
    saver = await savers()
    await chain(saver).ainvoke({"numbers": [-1]}, config, durability=durability)
    outbox = saver._threads.outbox
    monkeypatch.setattr("diurna_workflows.checkpointer.outbox.RESEND_SECONDS_MAX", 0.05)
    monkeypatch.setattr("diurna_workflows.checkpointer.outbox.GATHER_SECONDS_MAX", 0.0)  # in more than one piece
    left = {"exit": 0, "sync": 4, "async": 1}[durability]
    write = outbox._write_once

    async def failing(*arguments: Any) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise Unavailable("nobody answers")
        return await write(*arguments)

    monkeypatch.setattr(outbox, "_write_once", failing)
    with pytest.raises(Unavailable):
        await chain(saver).ainvoke({"numbers": [-2]}, config, durability=durability)
    monkeypatch.undo()
    history = [one async for one in (await savers()).alist(config)]  # type: ignore[arg-type]
    parents = [one.parent_config["configurable"]["checkpoint_id"] for one in history if one.parent_config]
    assert parents == [one.checkpoint["id"] for one in history[1:]]
    again = await chain(saver).ainvoke({"numbers": [-3]}, config, durability=durability)
    assert again["numbers"][-11:] == [-3, *range(10)]
