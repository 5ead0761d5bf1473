"""Reads PromQL, and says which metrics and labels an expression uses that there are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as promql

TARGET_LABELS = frozenset({"job", "instance", "process"})
"""What every scraped series has beside its own labels."""
OWN_METRICS: dict[str, frozenset[str]] = {"up": frozenset()}
"""What Prometheus tells of its targets."""

Known = Mapping[str, frozenset[str]]


def selectors(expression: str) -> Iterator[Any]:
    """Every selector of a series."""
    found: list[Any] = []
    promql.walk(
        promql.parse(expression),
        lambda node: found.append(node) if isinstance(node, promql.VectorSelector) else None,
    )
    # what is behind [5m] is no child of its own
    promql.walk(
        promql.parse(expression),
        lambda node: found.append(node.vector_selector) if isinstance(node, promql.MatrixSelector) else None,
    )
    return iter({id(one): one for one in found}.values())


def faults_of(expression: str, known: Known) -> list[str]:
    """What the expression uses and nobody serves."""
    known = {**OWN_METRICS, **known}
    faults: list[str] = []
    for selector in selectors(expression):
        if selector.name not in known:
            faults.append(f"no metric {selector.name}")
            continue
        asked = {matcher.name for matcher in selector.matchers.matchers}
        faults += [f"{selector.name} has no label {label}" for label in asked - known[selector.name] - TARGET_LABELS]
    if not faults:
        labels_of(promql.parse(expression), known, faults)
    return faults


def labels_of(node: Any, known: Known, faults: list[str]) -> frozenset[str]:
    """The labels of the result; what is grouped or matched by without being there is a fault."""
    match node:
        case promql.VectorSelector():
            return known[str(node.name)] | TARGET_LABELS
        case promql.MatrixSelector():
            return labels_of(node.vector_selector, known, faults)
        case promql.AggregateExpr():
            inner = labels_of(node.expr, known, faults)
            named = frozenset(node.modifier.labels if node.modifier is not None else ())
            faults += [f"no label {label} to group by" for label in named - inner]
            is_by = node.modifier is None or node.modifier.type == promql.AggModifierType.By
            return named if is_by else inner - named
        case promql.BinaryExpr():
            left, right = (labels_of(side, known, faults) for side in (node.lhs, node.rhs))
            matching = node.modifier.matching if node.modifier is not None else None
            if matching is not None:
                faults += [f"no label {label} to match on" for label in frozenset(matching.labels) - (left & right)]
            return left or right
        case promql.Call():
            argument_labels = [labels_of(argument, known, faults) for argument in node.args]
            if node.func.name in {"absent", "absent_over_time", "scalar", "vector", "time"}:
                return frozenset()
            labels = frozenset[str]().union(*argument_labels)
            return labels - {"le"} if node.func.name == "histogram_quantile" else labels
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return labels_of(node.expr, known, faults)
        case _:
            return frozenset()
