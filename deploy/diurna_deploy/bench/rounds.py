"""Interleaved rounds: every case beside its reference, in turned order, and medians of the ratios."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Measures = Mapping[str, float]
Case = Callable[[], Awaitable[Measures]]


@dataclass(frozen=True, slots=True)
class Rounds:
    """What each case measured in each round."""

    measured: tuple[Mapping[str, Measures], ...]

    def median(self, case: str, measure: str) -> float:
        """The median of a measure over the rounds."""
        return median(found[case][measure] for found in self.measured)

    def ratios(self, case: str, reference: str, measure: str) -> list[float]:
        """A measure divided by the reference's of the same round."""
        return [found[case][measure] / found[reference][measure] for found in self.measured]

    def ratio(self, case: str, reference: str, measure: str) -> float:
        """The median of the ratios: a machine that is slow for a while is slow for both."""
        return median(self.ratios(case, reference, measure))


async def interleaved(cases: Mapping[str, Case], *, rounds: int, turn: int = 0) -> Rounds:
    """Runs every case once a round; each round begins with another one, the first with that number `turn`."""
    names: Sequence[str] = tuple(cases)
    measured: list[dict[str, Measures]] = []
    for number in range(turn, turn + rounds):
        first = number % len(names)
        measured.append({name: await cases[name]() for name in (*names[first:], *names[:first])})
    return Rounds(tuple(measured))
