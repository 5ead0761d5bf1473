"""Grafana dashboards as code: `python -m diurna_deploy.dashboards DIRECTORY` writes their JSON."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards import broker, locks, projections, requests, team, workflows
from diurna_deploy.dashboards.model import Dashboard

DASHBOARDS: Final[tuple[Dashboard, ...]] = (
    team.DASHBOARD,
    requests.DASHBOARD,
    locks.DASHBOARD,
    workflows.DASHBOARD,
    projections.DASHBOARD,
    broker.DASHBOARD,
)
