"""What a run waits for, and how long: what passes, what does not, and what does not count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from diurna_schemas.errors import Conflict, DiurnaError, Unavailable
from diurna_workflows.driving import drive

AWAY = Unavailable("nobody answers")
PAUSED = Conflict("workflow w is paused", code="workflow_paused")


class Failing:
    """A graph that fails so often, after it has worked for a while, and then comes to its end."""

    def __init__(self, *errors: DiurnaError, works_seconds: float = 0.0) -> None:
        self._errors = list(errors)
        self._works_seconds = works_seconds

    @property
    def astream(self) -> Callable[..., AsyncIterator[Any]]:
        return self._stream

    async def aget_state(self, config: Any) -> Any:
        raise NotImplementedError

    async def aupdate_state(self, config: Any, values: Any, as_node: str | None = None) -> Any:
        raise NotImplementedError

    async def _stream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(self._works_seconds)
        if self._errors:
            raise self._errors.pop(0)
        yield "values", {"is": "done"}


async def driven(graph: Failing, patience_seconds: float) -> dict[str, Any]:
    return await drive(graph, "w", {}, saver=None, told=lambda _: None, patience_seconds=patience_seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diurna_workflows.driving._WAIT_SECONDS_MAX", 0.02)


async def test_the_time_in_which_it_worked_is_no_time_in_vain() -> None:
    assert await driven(Failing(AWAY, works_seconds=0.2), 0.1) == {"is": "done"}


async def test_what_never_answers_ends_it() -> None:
    with pytest.raises(Unavailable, match="nobody answers"):
        await driven(Failing(*[AWAY] * 1_000), 0.1)


async def test_a_pause_lasts_as_long_as_people_want() -> None:
    assert await driven(Failing(*[PAUSED] * 10, AWAY, AWAY), 0.1) == {"is": "done"}


async def test_what_does_not_pass_ends_it_at_once() -> None:
    graph = Failing(Conflict("workflow w is cancelled", code="workflow_over"))
    with pytest.raises(Conflict, match="is cancelled"):
        await driven(graph, 60.0)
