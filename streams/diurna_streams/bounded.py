"""Metrics whose label values come from outside: there are only so many series, whatever anybody sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram, Metric

AnyMetric = TypeVar("AnyMetric", Counter, Gauge, Histogram)

SERIES_MAX: Final = 1_000
OTHER: Final = "other"
"""The value of every open label once there are that many series."""


class Bounded(Generic[AnyMetric]):
    """A metric with labels, the first `series_max` combinations of which are kept apart.

    `closed` names the labels whose values are ours, such as a status: those are told apart for ever. A series is looked
    up by one dictionary, which is what makes this cheaper than the metric's own `labels`.
    """

    def __init__(
        self, metric: AnyMetric, labels: Iterable[str], *, closed: Iterable[str] = (), series_max: int = SERIES_MAX
    ) -> None:
        own = frozenset(closed)
        self.metric: AnyMetric = metric
        self._is_open = tuple(label not in own for label in labels)
        self._series_max = series_max
        self._series: dict[tuple[str, ...], AnyMetric] = {}

    def labels(self, *values: str) -> AnyMetric:
        """The series of these values, in the order of the labels."""
        found = self._series.get(values)
        return self._new(values) if found is None else found

    def describe(self) -> Iterable[Metric]:
        """As the metric's own."""
        return self.metric.describe()

    def _new(self, values: tuple[str, ...]) -> AnyMetric:
        if len(self._series) >= self._series_max:
            values = tuple(OTHER if is_open else value for value, is_open in zip(values, self._is_open, strict=True))
            if (found := self._series.get(values)) is not None:
                return found
        series = self._series[values] = self.metric.labels(*values)
        return series
