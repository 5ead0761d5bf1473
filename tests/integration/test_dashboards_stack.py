"""The dashboards' SQL on the tables of a running team, with a workflow to show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from diurna_deploy.dashboards import DASHBOARDS, workflows
from diurna_deploy.dashboards.model import Panel, Sql
from support.grafana import sql_of
from support.stack import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels if isinstance(panel.queries[0], Sql)]


@pytest.fixture(scope="module")
async def workflow_id(diurna: Any, status: dict[str, Any]) -> str:
    """One that failed in its review."""
    where = {"repo": "/no/such/repository", "base": "main", "head": "change", "deploy_to": "/no/such/directory"}
    asked = {
        "source_agent": "dashboards",
        "target_agent": "orchestrator",
        "request_type": "execute_task",
        "payload": {"workflow_type": "pr_deployment", "workflow_id": "shown-in-a-dashboard", "input": where},
        "timeout_seconds": 60,
    }
    async with httpx.AsyncClient(base_url=status["api_url"], timeout=90) as api:
        assert (await api.post("/agent-request", json=asked)).json()["status"] == "success"

        async def failed() -> bool:
            found = await api.get("/workflows/shown-in-a-dashboard")
            return found.is_success and found.json()["status"] == "failed"

        await eventually(failed)
    return "shown-in-a-dashboard"


@pytest.fixture(scope="module")
def status(diurna: Any) -> dict[str, Any]:
    found: dict[str, Any] = diurna.json("status")
    return found


@pytest.fixture(scope="module")
async def tables(status: dict[str, Any]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(status["database_url"])
    yield connection
    await connection.close()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
async def test_the_sql_of_a_panel_runs_on_the_tables(
    panel: Panel, tables: asyncpg.Connection, workflow_id: str
) -> None:
    for query in panel.queries:
        assert isinstance(query, Sql)
        statement = await tables.prepare(sql_of(query.text, {"workflow": [workflow_id]}))
        columns = [column.name for column in statement.get_attributes()]
        if query.format == "time_series":
            assert columns == ["time", "metric", "value"]
        await statement.fetch()


async def test_the_steps_of_a_workflow_are_shown_as_they_went(tables: asyncpg.Connection, workflow_id: str) -> None:
    (panel,) = [panel for panel in workflows.DASHBOARD.panels if panel.title == "Steps"]
    found = await tables.fetch(sql_of(panel.queries[0].text, {"workflow": [workflow_id]}))  # type: ignore[union-attr]
    shown = [(row["metric"], panel.values[row["value"]][0]) for row in found]
    assert shown == [(f"{workflow_id} review", "running"), (f"{workflow_id} review", "failed")]
    (whole,) = [panel for panel in workflows.DASHBOARD.panels if panel.title == "Whole workflows"]
    found = await tables.fetch(sql_of(whole.queries[0].text, {"workflow": [workflow_id]}))  # type: ignore[union-attr]
    assert [whole.values[row["value"]][0] for row in found] == ["running", "failed"]


async def test_the_workflows_to_choose_from_are_those_there_are(tables: asyncpg.Connection, workflow_id: str) -> None:
    (variable,) = workflows.DASHBOARD.variables
    assert isinstance(variable.query, Sql)
    found = await tables.fetch(sql_of(variable.query.text, {}))
    assert workflow_id in {row["workflow_id"] for row in found}
