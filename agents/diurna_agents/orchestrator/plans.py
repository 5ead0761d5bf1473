"""A task as a plan: subtasks, what they wait for, and what they hand to one another. Pure: nobody is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, cast

from pydantic import Field, StringConstraints

from diurna_agents.payload import Payload, validated
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Name

SUBTASKS_MAX: Final = 50
RESULT: Final = "$result"
"""`{"$result": "build.files.0.path"}` in a payload stands for that part of another subtask's result."""

SubtaskId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Subtask(Payload):
    """One request of a plan. Without an `agent`, whoever has the request type as a capability is asked."""

    id: SubtaskId
    description: Annotated[str, StringConstraints(max_length=2_000)] = ""
    request_type: Name
    agent: Name | None = None
    payload: dict[str, Any] = Field(default_factory=dict[str, Any])
    depends_on: tuple[SubtaskId, ...] = Field(default=(), max_length=SUBTASKS_MAX, strict=False)
    timeout_seconds: float = Field(default=1_800, gt=0, le=86_400, allow_inf_nan=False)

    @property
    def waits_for(self) -> frozenset[str]:
        """The subtasks it depends on, those it only takes a result from included."""
        return frozenset(self.depends_on) | {path.partition(".")[0] for path in references(self.payload)}

    def as_json(self) -> dict[str, Any]:
        """As answers and events hold it."""
        return {**self.model_dump(mode="json"), "depends_on": sorted(self.waits_for)}


class Plan(Payload):
    """Subtasks that can be done: their ids are their own, and nothing waits for itself."""

    subtasks: tuple[Subtask, ...] = Field(min_length=1, max_length=SUBTASKS_MAX, strict=False)

    @classmethod
    def of(cls, subtasks: object) -> Plan:
        """Raises `InvalidInput` naming the subtask that is wrong."""
        plan = validated(cls, {"subtasks": subtasks})
        known = [subtask.id for subtask in plan.subtasks]
        for at, subtask in enumerate(plan.subtasks):
            if known.index(subtask.id) != at:
                raise InvalidInput(f"subtasks.{at}.id", subtask.id, "another subtask has this id")
            if strangers := sorted(subtask.waits_for - set(known)):
                raise InvalidInput(f"subtasks.{at}.depends_on", strangers[0], "there is no such subtask")
        try:
            plan.sorter().prepare()
        except CycleError as error:
            circle = " → ".join(cast("list[str]", error.args[1]))
            raise InvalidInput("subtasks", circle, "they wait for one another") from error
        return plan

    def sorter(self) -> TopologicalSorter[str]:
        """The order in which they can be done."""
        return TopologicalSorter({subtask.id: subtask.waits_for for subtask in self.subtasks})

    def waves(self) -> list[list[str]]:
        """Which subtasks can be done side by side, in order."""
        sorter, found = self.sorter(), list[list[str]]()
        sorter.prepare()
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            found.append(ready)
            sorter.done(*ready)
        return found


def references(value: Any) -> Iterator[str]:
    """The paths of results that a payload takes from other subtasks."""
    match value:
        case {"$result": str(path), **rest} if not rest:
            yield path
        case Mapping():
            for found in cast("Mapping[str, Any]", value).values():
                yield from references(found)
        case list() | tuple():
            for found in cast("Sequence[Any]", value):
                yield from references(found)
        case _:
            return


def filled(value: Any, results: Mapping[str, Any]) -> Any:
    """The payload with every reference replaced. Raises `InvalidInput` where a result has no such part."""
    match value:
        case {"$result": str(path), **rest} if not rest:
            return _part(path, results)
        case Mapping():
            return {name: filled(found, results) for name, found in cast("Mapping[str, Any]", value).items()}
        case list() | tuple():
            return [filled(found, results) for found in cast("Sequence[Any]", value)]
        case _:
            return value


def part_of(path: str, value: object) -> Any:
    """What lies at a dotted path, list places by number; None where there is nothing."""
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = cast("Mapping[str, object]", value).get(step)
        elif isinstance(value, list) and step.isdecimal():
            value = dict(enumerate(cast("list[object]", value))).get(int(step))
        else:
            return None
    return value


def _part(path: str, results: Mapping[str, Any]) -> Any:
    found = part_of(path, results)
    if found is None:
        raise InvalidInput(RESULT, path, "no result has this part, or it is empty")
    return found
