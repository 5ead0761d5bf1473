"""The alert rules we ship: they are rules, and they ask for metrics that there are, by labels these have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import diurna_streams.audit
import diurna_streams.metrics
import diurna_streams.project.metrics

RULES = sorted((Path(__file__).parents[2] / "deploy" / "prometheus").glob("*.yml"))
SEVERITIES = {"critical", "warning"}
assert diurna_streams.audit
assert diurna_streams.metrics
assert diurna_streams.project.metrics


def rules_of(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def labels_by_name() -> dict[str, set[str]]:
    """Every metric registered here, under the names Prometheus gives its series, with its labels."""
    collectors: Any = prometheus_client.REGISTRY._collector_to_names
    return {
        name: set(getattr(collector, "_labelnames", ()))
        for collector, names in collectors.items()
        for name in names
    }  # fmt: skip


def faults_of(rule: dict[str, Any]) -> list[str]:
    known, expression = labels_by_name(), str(rule["expr"])
    used = set(re.findall(r"\bdiurna_\w+", expression))
    faults = [f"no metric {name}" for name in used if name not in known]
    by = {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    faults += [f"no label {label}" for label in by if not all(label in known.get(name, ()) for name in used)]
    faults += [f"{label} is not in the result" for label in shown - by]
    return faults


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_alerts_ask_for_what_there_is(path: Path) -> None:
    rules = rules_of(path)
    assert rules
    for rule in rules:
        assert re.fullmatch(r"Diurna[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["annotations"]["summary"]
        assert faults_of(rule) == [], rule["alert"]


def test_a_rule_about_nothing_is_noticed() -> None:
    rule = {
        "expr": "sum by (topic, colour) (diurna_audit_divergedd) > 0",
        "annotations": {"summary": "{{ $labels.shape }}"},
    }
    assert {"no metric diurna_audit_divergedd", "no label colour", "shape is not in the result"} <= set(faults_of(rule))
