"""Every metric there is, read from the code that counts: reference, rules and dashboards are held to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, cast

from prometheus_client import Metric

from diurna_streams.bounded import Bounded

MODULES: Final = {
    "diurna.metrics": "agents, and every process that asks or locks",
    "diurna_streams.metrics": "decider",
    "diurna_streams.standing": "decider",
    "diurna_streams.project.metrics": "projector",
    "diurna_streams.audit.metrics": "auditor",
    "diurna_workflows.metrics": "orchestrator",
}
"""The modules that hold metrics, and whose processes count by them."""

_SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as it is documented. `labels` are those of every series of it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    words: str
    counted_by: str

    @property
    def series(self) -> Iterator[tuple[str, frozenset[str]]]:
        """The names under which Prometheus stores it, each with its labels."""
        stem = self.name.removesuffix("_total")
        for suffix in _SUFFIXES[self.kind]:
            yield stem + suffix, frozenset((*self.labels, "le") if suffix == "_bucket" else self.labels)


def families() -> list[Family]:
    """All of them, in the order of the modules."""
    return [
        _family(metric, labels, counted_by)
        for module, counted_by in MODULES.items()
        for metric, labels in _described(vars(import_module(module)))
    ]


def series() -> dict[str, frozenset[str]]:
    """The names a query may use, with the labels of each."""
    return {name: labels for family in families() for name, labels in family.series}


def table(found: Iterable[Family]) -> str:
    """Markdown for the reference, a heading for each kind of process."""
    lines: list[str] = []
    counted_by = None
    for family in found:
        if family.counted_by != counted_by:
            counted_by = family.counted_by
            lines += ["", f"### {counted_by[0].upper()}{counted_by[1:]}", "", "| metric | kind | labels | what |"]
            lines += ["|---|---|---|---|"]
        labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.words.rstrip('.')} |")
    return "\n".join(lines).strip() + "\n"


def _described(module: Mapping[str, Any]) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """The metrics a module names, without the single series it may name too."""
    for name, value in module.items():
        collector: Any = cast("Any", value).metric if isinstance(value, Bounded) else value
        if name.startswith("_") or isinstance(value, type) or not hasattr(collector, "describe"):
            continue
        for metric in collector.describe():
            labels: Iterable[str] = getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ())
            yield metric, tuple(labels)


def _family(metric: Metric, labels: tuple[str, ...], counted_by: str) -> Family:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return Family(name, metric.type, labels, metric.documentation, counted_by)
