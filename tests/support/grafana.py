"""What a Grafana dashboard asks, as Grafana would send it; and what is wrong with one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from support.promql import Known, faults_of, labels_of, promql

ROOT = Path(__file__).parents[2]
PROVISIONED = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/diurna.yaml").read_text())["datasources"]
EXPORTER: dict[str, frozenset[str]] = {
    "kafka_brokers": frozenset(),
    "kafka_topic_partition_current_offset": frozenset({"topic", "partition"}),
    "kafka_topic_partition_under_replicated_partition": frozenset({"topic", "partition"}),
    "kafka_consumergroup_lag": frozenset({"consumergroup", "topic", "partition"}),
}
"""What we ask of kafka-exporter, which the compose file runs beside Kafka."""


def panels_of(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that show something."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expression_of(target: Mapping[str, Any]) -> str:
    """PromQL with Grafana's variables filled in."""
    return re.sub(r"\$\w+", lambda found: "5m" if found[0].startswith("$__") else ".*", target["expr"])


def sql_of(text: str, values: Mapping[str, list[str]]) -> str:
    """SQL with Grafana's macros and variables filled in."""
    text = text.replace("$__unixEpochFrom()", "0").replace("$__unixEpochTo()", "2000000000")
    for name, chosen in values.items():
        quoted = ", ".join("'" + one.replace("'", "''") + "'" for one in chosen)
        text = text.replace(f"${{{name}:sqlstring}}", quoted or "''")
    return text


def lint(dashboard: Mapping[str, Any], known: Known) -> list[str]:
    """Every fault of a dashboard, in words."""
    faults: list[str] = []
    panels = list(panels_of(dashboard))
    for what, values in (
        ("id", [panel["id"] for panel in dashboard["panels"]]),
        ("title", [panel["title"] for panel in panels]),
    ):
        faults += [f"the {what} {value} is there twice" for value, count in Counter(values).items() if count > 1]
    sources = {(source["type"], source["uid"]) for source in PROVISIONED}
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in panels:
        name = panel["title"] or "a panel"
        faults += [f"{name}: no {field}" for field in ("title", "description", "targets") if not panel[field]]
        if not panel["fieldConfig"]["defaults"].get("unit"):
            faults.append(f"{name}: no unit")
        if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
            faults.append(f"{name}: wider than the page")
        for target in panel["targets"]:
            source = target["datasource"]
            if (source["type"], source["uid"]) not in sources:
                faults.append(f"{name}: no data source {source['uid']}")
            text = target.get("expr") or target["rawSql"]
            used = set(re.findall(r"\$\{?([a-z]\w*)", text))
            faults += [f"{name}: no variable {one}" for one in used - variables]
            if "expr" in target:
                faults += [f"{name}: {fault}" for fault in _faults_of_query(target, known)]
    faults += [
        f"{one['title']} lies on {other['title']}"
        for one, other in combinations(dashboard["panels"], 2)
        if _overlap(one["gridPos"], other["gridPos"])
    ]
    return faults


def _faults_of_query(target: Mapping[str, Any], known: Known) -> list[str]:
    expression, served = expression_of(target), {**EXPORTER, **known}
    if faults := faults_of(expression, served):
        return faults
    shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    there = labels_of(promql.parse(expression), {"up": frozenset(), **served}, [])
    if not target["legendFormat"]:
        return ["no legend"]
    return [f"the legend shows {label}, which is not in the result" for label in shown - there]


def _overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
