"""What a decider is: a handful of pure functions over one state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from diurna_schemas.message import Command, Event, Heading
from diurna_schemas.topics import Family

State = TypeVar("State")
AnyCommand = TypeVar("AnyCommand", bound=Command)
AnyEvent = TypeVar("AnyEvent", bound=Event)


@dataclass(frozen=True, slots=True)
class Decision(Generic[State, AnyEvent]):
    """The events of one command, and the state they lead to: exactly what folding them with `evolve` gives."""

    state: State
    events: tuple[AnyEvent, ...]


@dataclass(frozen=True, slots=True)
class Rules(Generic[State, AnyCommand, AnyEvent]):
    """The rules of one family of decisions.

    `decide(state, command, heading)` and `evolve(state, event, command_offset)` are pure: the same arguments give
    equal results. `next_due_ms(state)` is when a tick would change something; `dump` and `load` turn the state into
    JSON and back. A change that decides differently needs a new `logic_version`.
    """

    family: Family
    logic_version: int
    initial: State
    decide: Callable[[State, AnyCommand, Heading], Decision[State, AnyEvent]]
    evolve: Callable[[State, AnyEvent, int], State]
    next_due_ms: Callable[[State], int | None]
    tick: Callable[[int, str], AnyCommand]
    dump: Callable[[State], dict[str, Any]]
    load: Callable[[dict[str, Any]], State]
