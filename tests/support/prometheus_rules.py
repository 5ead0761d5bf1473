"""The rules we ship, and every name a query may use: what is served, and what rules record of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from diurna_deploy import metrics_catalogue
from support.promql import labels_of

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy" / "prometheus").glob("*.rules.yml"))


def rules_of(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


@cache
def known() -> dict[str, frozenset[str]]:
    series = metrics_catalogue.series()
    for path in RULES:
        for rule in rules_of(path):
            if "record" in rule:
                series[rule["record"]] = labels_of(promql_parser.parse(rule["expr"]), series, [])
    return series
