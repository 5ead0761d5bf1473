"""The drawing of a workflow's graph: which way it went, where it is, and what is still to be done."""

from __future__ import annotations

from typing import Any, cast

import pytest

from diurna_deploy.pages import graph
from diurna_workflows.definitions import DEFINITIONS
from diurna_workflows.outlines import OUTLINES

CHAIN = (("plan", "work"), ("work", "check"), ("check", "end"), ("work", "end"))


def states(visited: list[str], *, status: str = "running", is_waiting: bool = False) -> dict[str, str]:
    found = graph.drawn(CHAIN, visited, status=status, is_waiting=is_waiting)
    assert found is not None
    return {node.name: node.state for node in found.nodes}


@pytest.mark.parametrize("workflow_type", DEFINITIONS)
def test_the_outlines_are_the_graphs_of_the_workflows(workflow_type: str) -> None:
    drawn = cast("Any", DEFINITIONS[workflow_type].build(cast("Any", None))).get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    inner = {edge for edge in edges if not {"__start__", "__end__"} & set(edge)}
    assert set(OUTLINES[workflow_type]) == inner


def test_a_workflow_that_has_not_begun_has_everything_to_do() -> None:
    assert states([]) == dict.fromkeys(("plan", "work", "check", "end"), "todo")


def test_the_last_step_is_where_it_is() -> None:
    assert states(["work", "check"]) == {"plan": "done", "work": "done", "check": "current", "end": "todo"}
    assert states(["work"], is_waiting=True)["work"] == "waiting"
    assert states(["work"], status="paused")["work"] == "waiting"
    assert states(["work"], status="failed") == {"plan": "done", "work": "failed", "check": "todo", "end": "todo"}
    assert states(["work"], status="cancelled")["work"] == "cancelled"


def test_a_completed_one_is_at_its_end() -> None:
    assert states(["work", "check"], status="completed") == dict.fromkeys(("plan", "work", "check", "end"), "done")


def test_nobody_knows_the_graph_and_the_way_is_drawn() -> None:
    found = graph.drawn((), ["a", "b", "a", "c"], status="running")
    assert found is not None
    assert [(node.name, node.state) for node in found.nodes] == [("a", "done"), ("b", "done"), ("c", "current")]
    assert all(edge.is_taken for edge in found.edges)
    assert len(found.edges) == 3
    assert graph.drawn((), [], status="running") is None


def test_no_step_stands_on_another_and_all_stand_in_the_picture() -> None:
    edges = (("start", "left"), ("start", "right"), ("left", "end"), ("right", "end"), ("start", "end"))
    found = graph.drawn(edges, ["start", "left"], status="running")
    assert found is not None
    places = [(node.x, node.y) for node in found.nodes]
    assert len(set(places)) == len(places) == 4
    assert all(x + graph.WIDTH <= found.width and y + graph.HEIGHT <= found.height for x, y in places)
    assert [edge.is_taken for edge in found.edges] == [False, False, False, False, True]
