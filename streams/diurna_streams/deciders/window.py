"""What was seen lately: remembered for at least a span of log time, then forgotten, two generations at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from immutables import Map

Value = TypeVar("Value")

SPAN_MS: Final = 5 * 60_000
"""Clients resend a command for two minutes at most; twice that and more is remembered."""


@dataclass(frozen=True, slots=True)
class Window(Generic[Value]):
    """Keys and values of the last `SPAN_MS` to twice that. Forgetting costs nothing: a generation goes at once."""

    began_ms: int = 0
    young: Map[str, Value] = field(default_factory=lambda: cast("Map[str, Value]", Map()))
    old: Map[str, Value] = field(default_factory=lambda: cast("Map[str, Value]", Map()))

    def get(self, key: str, now_ms: int) -> Value | None:
        """What is remembered of a key at `now_ms`: the same whether or not anything else was put in the meantime."""
        age_ms = now_ms - self.began_ms
        if age_ms >= 2 * SPAN_MS:
            return None
        found = self.young.get(key)
        return self.old.get(key) if found is None and age_ms < SPAN_MS else found

    def put(self, key: str, value: Value, now_ms: int) -> Window[Value]:
        """With this key, as of `now_ms`. A key already there keeps its value."""
        if now_ms - self.began_ms >= SPAN_MS:
            # After a long silence nothing of the young generation is worth keeping either.
            old: Map[str, Value] = self.young if now_ms - self.began_ms < 2 * SPAN_MS else Map()
            kept = old.get(key, value)
            return Window(now_ms, cast("Map[str, Value]", Map()).set(key, kept), old)
        if key in self.young:
            return self
        return Window(self.began_ms, self.young.set(key, self.old.get(key, value)), self.old)

    def dump(self) -> dict[str, Any]:
        """As JSON, where the values are."""
        return {"began_ms": self.began_ms, "young": dict(self.young.items()), "old": dict(self.old.items())}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Window[Value]:
        """From JSON."""
        return cls(dumped["began_ms"], Map(dumped["young"]), Map(dumped["old"]))
