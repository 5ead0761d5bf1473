"""What a dashboard is made of, and its JSON: panels are laid out from left to right, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

PROMETHEUS: Final = {"type": "prometheus", "uid": "diurna-prometheus"}
POSTGRES: Final = {"type": "grafana-postgresql-datasource", "uid": "diurna-postgres"}
"""The data sources as deploy/grafana/provisioning names them."""

_COLUMNS: Final = 24
_SCHEMA_VERSION: Final = 41

Kind = Literal["timeseries", "stat", "table", "state-timeline", "bargauge"]
Unit = Literal["short", "none", "s", "ms", "reqps", "ops", "percentunit", "bytes", "dateTimeFromNow"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A query to Prometheus; `legend` may hold labels as `{{label}}`."""

    expr: str
    legend: str
    instant: bool = False

    def to_json(self, ref: str) -> dict[str, Any]:
        return {
            "refId": ref,
            "datasource": PROMETHEUS,
            "expr": self.expr,
            "legendFormat": self.legend,
            "range": not self.instant,
            "instant": self.instant,
        }


@dataclass(frozen=True, slots=True)
class Sql:
    """A query to the tables. A `time_series` has the columns time, metric, value."""

    text: str
    format: Literal["table", "time_series"] = "table"

    def to_json(self, ref: str) -> dict[str, Any]:
        return {
            "refId": ref,
            "datasource": POSTGRES,
            "rawSql": self.text.strip(),
            "rawQuery": True,
            "editorMode": "code",
            "format": self.format,
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `values` gives numbers words and colours; `warn_at` and `alarm_at` colour what is above them."""

    title: str
    description: str
    unit: Unit
    queries: Sequence[Metric | Sql]
    kind: Kind = "timeseries"
    width: int = 12
    height: int = 8
    warn_at: float | None = None
    alarm_at: float | None = None
    values: Mapping[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    stacked: bool = False

    def to_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel at its place. Its sources are those of its queries, which are all of one kind."""
        targets = [query.to_json(chr(ord("A") + at)) for at, query in enumerate(self.queries)]
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": targets[0]["datasource"],
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": targets,
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
        }

    def _defaults(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        for limit, colour in ((self.warn_at, "orange"), (self.alarm_at, "red")):
            if limit is not None:
                steps.append({"color": colour, "value": limit})
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "color": {
                "mode": "thresholds" if self.kind in {"stat", "state-timeline", "bargauge"} else "palette-classic"
            },
            "thresholds": {"mode": "absolute", "steps": steps},
            "mappings": [
                {"type": "value", "options": {str(value): {"text": text, "color": colour, "index": value}}}
                for value, (text, colour) in self.values.items()
            ],
        }
        match self.kind:
            case "timeseries":
                defaults["min"] = 0
                defaults["custom"] = {
                    "fillOpacity": 20 if self.stacked else 5,
                    "stacking": {"mode": "normal" if self.stacked else "none"},
                    "thresholdsStyle": {"mode": "dashed" if len(steps) > 1 else "off"},
                    "showPoints": "never",
                }
            case "state-timeline":
                defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
            case _:
                pass
        return defaults

    def _options(self) -> dict[str, Any]:
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        match self.kind:
            case "timeseries":
                return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
            case "state-timeline":
                return {"mergeValues": True, "showValue": "auto", "rowHeight": 0.85, "legend": legend}
            case "stat" | "bargauge":
                calculated = {"calcs": ["lastNotNull"], "fields": "", "values": False}
                return {"reduceOptions": calculated, "orientation": "auto"}
            case "table":
                return {"showHeader": True, "cellHeight": "sm"}


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader chooses from: the values of a label, or the rows of a query to the tables."""

    name: str
    label: str
    query: Sql | str

    def to_json(self) -> dict[str, Any]:
        is_sql = isinstance(self.query, Sql)
        query = self.query.text.strip() if isinstance(self.query, Sql) else self.query
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": POSTGRES if is_sql else PROMETHEUS,
            "query": query if is_sql else {"query": query, "refId": self.name},
            "definition": query,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "sort": 0 if is_sql else 1,
            # Everything, for a label; of rows, Grafana writes all of them.
            **({} if is_sql else {"allValue": ".*"}),
            "current": {"text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. `rows` are its panels under headings."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[Variable] = ()

    @property
    def panels(self) -> list[Panel]:
        return [panel for _, panels in self.rows for panel in panels]

    def to_json(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": f"Diurna: {self.title}",
            "description": self.description,
            "tags": ["diurna"],
            "schemaVersion": _SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [variable.to_json() for variable in self.variables]},
            "links": [{"type": "dashboards", "tags": ["diurna"], "title": "Diurna", "asDropdown": True}],
            "annotations": {"list": []},
            "panels": list(self._laid_out()),
        }

    def text(self) -> str:
        """The file Grafana reads."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    def _laid_out(self) -> Iterator[dict[str, Any]]:
        number = y = 0
        for heading, panels in self.rows:
            number += 1
            place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
            yield {"id": number, "type": "row", "title": heading, "collapsed": False, "gridPos": place, "panels": []}
            x, y, tallest = 0, y + 1, 0
            for panel in panels:
                if x + panel.width > _COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield panel.to_json(number, x, y)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
