"""A workflow's graph as a drawing: what there is to be done, which way it went, and where it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

State = Literal["done", "current", "waiting", "failed", "cancelled", "todo"]
Edges = Sequence[tuple[str, str]]

WIDTH: Final = 132
HEIGHT: Final = 44
_GAP_X: Final = 44
_GAP_Y: Final = 28
_MARGIN: Final = 16
_BEND: Final = 34
_STATE_OF: Final[dict[str, State]] = {"failed": "failed", "cancelled": "cancelled", "completed": "done"}


@dataclass(frozen=True, slots=True)
class Node:
    """One step. `x` and `y` are its upper left corner."""

    name: str
    x: int
    y: int
    state: State


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one step to another, as an SVG path."""

    path: str
    is_taken: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """All of it, and its size."""

    nodes: list[Node]
    edges: list[Edge]
    width: int
    height: int


def drawn(outline: Edges, visited: Sequence[str], *, status: str, is_waiting: bool = False) -> Drawing | None:
    """The drawing; the way alone where nobody knows the graph, None where there is neither.

    `visited` are the steps in the order they came, `status` is the workflow's.
    """
    way = _way(outline, visited, status)
    taken = list(pairwise(way))
    known = {name for edge in outline for name in edge}
    # A step no outline knows still was a step: it is drawn where it was come from.
    edges = list(dict.fromkeys([*outline, *(edge for edge in taken if not set(edge) <= known)]))
    names = list(dict.fromkeys([*(name for edge in edges for name in edge), *way]))
    if not names:
        return None
    layers = _layers(names, edges)
    rows: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for name in names:
        row = rows.get(layers[name], 0)
        rows[layers[name]] = row + 1
        places[name] = (layers[name], row)
    nodes = [Node(name, *_corner(places[name]), _state(name, way, status, is_waiting)) for name in names]
    lines = [Edge(_path(places[a], places[b]), (a, b) in taken) for a, b in dict.fromkeys([*edges, *taken])]
    has_bends = any(places[b][0] - places[a][0] != 1 for a, b in [*edges, *taken])
    width = 2 * _MARGIN + (max(layers.values()) + 1) * (WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + max(rows.values()) * (HEIGHT + _GAP_Y) - _GAP_Y + (_BEND + 12 if has_bends else 0)
    # What was not taken first: what was lies over it.
    return Drawing(nodes, sorted(lines, key=lambda line: line.is_taken), width, height)


def _way(outline: Edges, visited: Sequence[str], status: str) -> list[str]:
    """The steps that were taken, with the first and the last one, of which nobody tells."""
    way = list(visited)
    if not way:
        return way
    later, earlier = {b for _, b in outline}, {a for a, _ in outline}
    way = [*[a for a, b in outline if b == way[0] and a not in later and a not in way][:1], *way]
    if status == "completed":
        way += [b for a, b in outline if a == way[-1] and b not in earlier][:1]
    return way


def _state(name: str, way: Sequence[str], status: str, is_waiting: bool) -> State:
    if name not in way:
        return "todo"
    if name != way[-1]:
        return "done"
    return _STATE_OF.get(status, "waiting" if is_waiting or status == "paused" else "current")


def _layers(names: Iterable[str], edges: Edges) -> dict[str, int]:
    """How far from the beginning each step is at most. An edge that leads back counts for nothing."""
    found = dict.fromkeys(names, 0)
    order = {name: number for number, name in enumerate(found)}
    ahead = [(a, b) for a, b in edges if order[a] < order[b]]
    for _ in found:
        for a, b in ahead:
            found[b] = max(found[b], found[a] + 1)
    return found


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    return _MARGIN + place[0] * (WIDTH + _GAP_X), _MARGIN + place[1] * (HEIGHT + _GAP_Y)


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    """A straight line to the next step, a bow under the others to all that are further away."""
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    if end[0] - start[0] == 1:
        return f"M{x1 + WIDTH} {y1 + HEIGHT // 2} L{x2 - 6} {y2 + HEIGHT // 2}"
    bottom = max(y1, y2) + HEIGHT + _BEND + min(abs(end[0] - start[0]) * 4, _BEND)
    left, right = x1 + WIDTH // 2, x2 + WIDTH // 2
    return f"M{left} {y1 + HEIGHT} C{left} {bottom} {right} {bottom} {right} {y2 + HEIGHT + 6}"
