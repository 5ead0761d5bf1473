"""The dashboards we ship are those the code makes, and ask only for what there is."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from diurna_deploy.dashboards import DASHBOARDS
from diurna_deploy.dashboards.model import Dashboard
from support.grafana import lint
from support.prometheus_rules import known

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_a_dashboard_has_no_fault(dashboard: Dashboard) -> None:
    assert lint(dashboard.to_json(), known()) == []


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_the_file_is_what_the_code_makes(dashboard: Dashboard) -> None:
    path = FOLDER / f"{dashboard.uid}.json"
    assert path.read_text(encoding="utf-8") == dashboard.text(), (
        "make it anew: python -m diurna_deploy.dashboards deploy/grafana/dashboards"
    )


def test_there_is_a_file_for_each_dashboard_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*")} == {dashboard.uid for dashboard in DASHBOARDS}
    assert len({dashboard.title for dashboard in DASHBOARDS}) == len(DASHBOARDS) == 6


def test_the_linter_notices_what_is_wrong() -> None:
    broken = copy.deepcopy(DASHBOARDS[0].to_json())
    panels = [panel for panel in broken["panels"] if panel["type"] != "row"]
    panels[1] |= {"id": panels[0]["id"], "title": panels[0]["title"], "gridPos": panels[0]["gridPos"]}
    panels[2]["targets"][0]["expr"] = "sum(diurna_agent_queue_depht)"
    panels[3]["targets"][0]["legendFormat"] = "{{topic}}"
    del panels[4]["fieldConfig"]["defaults"]["unit"]
    panels[5]["targets"][0]["datasource"] = {"type": "prometheus", "uid": "elsewhere"}
    panels[6]["targets"][0]["expr"] = 'diurna_agent_in_flight{agent_id=~"$agnt"}'
    faults = "; ".join(lint(broken, known()))
    for said in (
        "the id 2 is there twice",
        "the title Agents with a live instance is there twice",
        "no metric diurna_agent_queue_depht",
        "the legend shows topic",
        "Dead letters, 24 h: no unit",
        "no data source elsewhere",
        "no variable agnt",
        "lies on",
    ):
        assert said in faults
    assert json.dumps(broken)
