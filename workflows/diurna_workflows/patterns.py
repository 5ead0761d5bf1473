"""Ready-made workflows over agents: one after the other, side by side, or one for each of many and then one for all.

A task's payload is made from what is known: `input`, and the result of each task before it by its name. How it ended:

- `completed`: all tasks were done
- `partial`: side by side, with `enough="any"`: some were done, some were not
- `failed`: a task was not done; one after the other, those behind it are not begun
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import checked_name
from diurna_workflows.definitions import Definition
from diurna_workflows.driving import Graph
from diurna_workflows.pattern_tasks import AgentTask, Enough, Known
from diurna_workflows.ports import Bus
from diurna_workflows.state import JsonObject

if TYPE_CHECKING:
    from diurna_workflows.pattern_nodes import PatternNodes


def sequential(workflow_type: str, tasks: Sequence[AgentTask]) -> Definition:
    """One task after the other. The first that is not done ends it."""

    def connect(nodes: PatternNodes) -> None:
        names = [task.name for task in tasks]
        for task, following in zip(tasks, [*names[1:], "finish"], strict=True):
            nodes.add(task, then=following, stops=True)
        nodes.begin_with(lambda _: names[0], [names[0]])

    return _definition(workflow_type, tasks, connect)


def parallel(workflow_type: str, tasks: Sequence[AgentTask], *, enough: Enough = "all") -> Definition:
    """All tasks side by side. With `enough="any"`, one that was done makes it a success."""

    def connect(nodes: PatternNodes) -> None:
        for task in tasks:
            nodes.add(task, then="finish")
        names = [task.name for task in tasks]
        nodes.begin_with(lambda _: names, names)

    return _definition(workflow_type, tasks, connect, enough)


def map_reduce(
    workflow_type: str,
    each: AgentTask,
    *,
    over: Callable[[Known], Sequence[Any]],
    reduce: AgentTask | None = None,
    enough: Enough = "all",
) -> Definition:
    """`each` for every one of `over`, side by side, its `item` being known to it; then `reduce`, knowing all of them.

    The results stand under `each.name`, in order: what was not done is None there. At most `ITEMS_MAX` are taken.
    """

    def connect(nodes: PatternNodes) -> None:
        nodes.add_for_each(each, then="gather")
        nodes.add_gathering(each, then="finish" if reduce is None else reduce.name, enough=enough)
        if reduce is not None:
            nodes.add(reduce, then="finish")
        nodes.begin_for_each(each, over)

    return _definition(workflow_type, [each, *([] if reduce is None else [reduce])], connect, enough)


def _definition(
    workflow_type: str,
    tasks: Sequence[AgentTask],
    connect: Callable[[PatternNodes], None],
    enough: Enough = "all",
) -> Definition:
    checked_name("workflow_type", workflow_type)
    if not tasks:
        raise InvalidInput("tasks", [], "at least one task is needed")
    names = [checked_name("name", task.name) for task in tasks]
    if reserved := {"input", "plan", "gather", "finish"} & set(names):
        raise InvalidInput("name", min(reserved), "this name is the workflow's own")
    if len(set(names)) < len(names):
        raise InvalidInput("tasks", names, "each task needs a name of its own")

    def build(bus: Bus, **parts: Any) -> Graph:
        from diurna_workflows.pattern_nodes import PatternNodes  # LangGraph takes a second to load

        nodes = PatternNodes(bus, enough=enough, **parts)
        connect(nodes)
        return cast("Graph", nodes.compiled())

    agents = tuple(dict.fromkeys(task.agent_id for task in tasks))
    return Definition(workflow_type, agents, _any_object, build)


def _any_object(given: object) -> JsonObject:
    if not isinstance(given, Mapping):
        raise InvalidInput("input", given, "a JSON object is needed")
    return dict(cast("Mapping[str, Any]", given))
