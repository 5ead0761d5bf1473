"""The rules we ship: they ask for metrics that there are, by labels these have, and lead to what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from support.prometheus_rules import ROOT, RULES, known, rules_of
from support.promql import faults_of, labels_of

UNIT_TESTS = sorted((ROOT / "tests" / "prometheus").glob("*.test.yml"))
RUNBOOK = "docs/how-to/runbook.md"
SEVERITIES = {"critical", "warning"}
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on the PATH: Debian's package `prometheus` brings it"
)


def alert_faults(rule: dict[str, Any]) -> list[str]:
    faults = faults_of(rule["expr"], known())
    if faults:
        return faults
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    missing = shown - labels_of(promql_parser.parse(rule["expr"]), {"up": frozenset(), **known()}, [])
    return [f"{label} is not in the result" for label in missing]


@pytest.mark.parametrize("rule", [rule for path in RULES for rule in rules_of(path)], ids=lambda rule: str(
    rule.get("alert") or rule["record"]
))  # fmt: skip
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    if "record" in rule:
        assert faults_of(rule["expr"], known()) == []
        return
    assert re.fullmatch(r"Diurna[A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"]["summary"]
    assert alert_faults(rule) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_alert_has_its_place_in_the_runbook(path: Path) -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / RUNBOOK).read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    alerts = [rule for rule in rules_of(path) if "alert" in rule]
    assert alerts
    for rule in alerts:
        assert rule["alert"] in headings
        document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert document == RUNBOOK
        assert anchor in anchors


def test_the_runbook_tells_of_no_alert_that_is_not_there() -> None:
    headings = re.findall(r"^## (Diurna\w+)$", (ROOT / RUNBOOK).read_text(encoding="utf-8"), re.MULTILINE)
    assert set(headings) == {rule["alert"] for path in RULES for rule in rules_of(path) if "alert" in rule}


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum by (topic) (diurna_audit_divergedd) > 0", "no metric diurna_audit_divergedd"),
        ("sum by (colour) (rate(diurna_dead_letters_total[5m]))", "no label colour to group by"),
        ('diurna_dead_letters_total{shape="round"}', "diurna_dead_letters_total has no label shape"),
        ("sum by (topic) (diurna_dead_letters_total) and on (family) diurna_decider_partitions",
         "no label family to match on"),
    ],
)  # fmt: skip
def test_an_expression_about_nothing_is_noticed(expression: str, fault: str) -> None:
    assert fault in faults_of(expression, known())


def test_an_annotation_about_a_label_that_is_gone_is_noticed() -> None:
    rule = {"expr": "sum(diurna_locks_held) > 0", "annotations": {"summary": "{{ $labels.family }}"}}
    assert alert_faults(rule) == ["family is not in the result"]


def test_every_alert_is_raised_in_a_unit_test_of_the_rules() -> None:
    tested = {
        case["alertname"]
        for path in UNIT_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == {rule["alert"] for path in RULES for rule in rules_of(path) if "alert" in rule}


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_finds_the_rules_right(path: Path) -> None:
    done = subprocess.run([str(PROMTOOL), "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_the_alerts_are_raised_when_they_should_and_only_then(path: Path) -> None:
    done = subprocess.run([str(PROMTOOL), "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_notices_an_alert_that_stays_away(tmp_path: Path) -> None:
    (path,) = [path for path in UNIT_TESTS if path.name == "diurna.test.yml"]
    broken = path.read_text().replace("../../", f"{ROOT}/").replace("values: 0+1x10", "values: 0+0x10")
    (tmp_path / "broken.test.yml").write_text(broken)
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", tmp_path / "broken.test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
