"""Tells an event in one line: when, where it stands, what it is, and the one thing worth knowing of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

_DETAIL_CHARACTERS_MAX: Final = 160
_TYPE_WIDTH: Final = 27
_COMMIT: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28}\b")
"""A commit's full id; twelve digits tell it apart."""
_POSITION_WIDTH: Final = 22

Fields = Mapping[str, Any]


def line(event: Fields) -> str:
    """An event as a line of a timeline."""
    moment = str(event.get("time", ""))[11:23].rstrip("Z")
    position = str(event.get("position", ""))
    type_name = str(event.get("type", ""))
    return f"{moment:<12}  {position:<{_POSITION_WIDTH}}  {type_name:<{_TYPE_WIDTH}}  {detail(event)}".rstrip()


def progress(event: Fields) -> str:
    """An event as a line of what is going on just now, without its place on the log."""
    moment = str(event.get("time", ""))[11:19]
    return f"{moment}  {event.get('type', '')!s:<{_TYPE_WIDTH}}  {detail(event)}".rstrip()


def detail(event: Fields) -> str:
    """What is worth knowing of an event beside its type."""
    data = event.get("data")
    if not isinstance(data, dict):
        return str(event.get("subject", ""))
    fields = cast("dict[str, Any]", data)
    teller = _TELLERS.get(str(event.get("type", "")))
    words = teller(fields) if teller else _shortest(fields)
    if event.get("type") == "task.progress":
        words = f"{event.get('source', '?')}: {words}"
    words = _COMMIT.sub(r"\1", " ".join(words.split()))
    return words if len(words) <= _DETAIL_CHARACTERS_MAX else f"{words[: _DETAIL_CHARACTERS_MAX - 1]}…"


def parsed(value: object) -> Any:
    """A JSON document as it stands on the log: text, or already read."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _request(fields: Fields) -> str:
    request = fields.get("request")
    found = cast("Fields", request) if isinstance(request, Mapping) else fields
    return f"{found.get('source_agent', '?')} asks {found.get('target_agent', '?')}: {found.get('request_type', '?')}"


def _dispatched(fields: Fields) -> str:
    return f"{_request(fields)} → {fields.get('instance_id', '?')}, attempt {fields.get('attempt', '?')}"


def _completed(fields: Fields) -> str:
    milliseconds = fields.get("processing_time_ms")
    took = f" in {milliseconds / 1000:.1f} s" if isinstance(milliseconds, int | float) and milliseconds else ""
    said = fields.get("error") or _result(parsed(fields.get("result")))
    return f"{fields.get('agent_id', '?')}: {fields.get('status', '?')}{took}: {said}".rstrip(": ")


def _result(result: object) -> str:
    if not isinstance(result, Mapping):
        return "" if result is None else str(result)
    found = cast("Fields", result)
    for name in ("summary", "reason", "deployment_status", "outcome", "decision", "status"):
        if found.get(name):
            return str(found[name])
    return ", ".join(list(map(str, found))[:6])


def _lock(fields: Fields) -> str:
    return f"{fields.get('agent_id', '?')}: {fields.get('resource_id', '?')}"


def _seconds(milliseconds: object) -> str:
    return f"{milliseconds / 1000:.1f} s" if isinstance(milliseconds, int | float) else "?"


def _progress(fields: Fields) -> str:
    details = fields.get("details")
    told = _pairs(cast("Fields", details)) if isinstance(details, Mapping) else ""
    return f"{fields.get('step', '')} {told}".strip()


def _state(fields: Fields) -> str:
    updates = parsed(fields.get("updates"))
    if not isinstance(updates, Mapping):
        return str(updates)
    found = cast("Fields", updates)
    return ", ".join(f"{name}: {_result(value)}" for name, value in found.items())


def _decided(fields: Fields) -> str:
    word = "approved" if fields.get("is_approved") else "rejected"
    return f"{word} by {fields.get('decided_by', '?')}: {fields.get('reason', '')}".rstrip(": ")


def _shortest(fields: Fields) -> str:
    hidden = {"command_id", "at_ms", "agent_id", "workflow_id"}
    return _pairs({name: value for name, value in fields.items() if name not in hidden})


def _pairs(fields: Fields) -> str:
    told = {name: value for name, value in fields.items() if value not in (None, "", [], {}, "{}")}
    return ", ".join(f"{name}={_short(value)}" for name, value in told.items())


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


_TELLERS: Final[dict[str, Callable[[Fields], str]]] = {
    "request.submitted": _request,
    "request.dispatched": _dispatched,
    "request.rejected": lambda fields: f"{_request(fields)}: {fields.get('error', '')}",
    "request.completed": _completed,
    "request.timed_out": lambda fields: str(fields.get("error", "")),
    "request.cancelled": lambda fields: f"by {fields.get('cancelled_by', '?')}: {fields.get('reason', '')}",
    "task.progress": _progress,
    "resource.locked": lambda fields: f"{_lock(fields)}, token {fields.get('fencing_token', '?')}",
    "lock.queued": lambda fields: f"{_lock(fields)}, behind {fields.get('holder_agent_id') or 'nobody'}",
    "resource.unlocked": lambda fields: f"{_lock(fields)}, held for {_seconds(fields.get('held_ms'))}",
    "workflow.created": lambda fields: f"{fields.get('workflow_type', '?')}, version {fields.get('version', '?')}",
    "workflow.step_changed": lambda fields: f"{fields.get('step', '?')}, version {fields.get('version', '?')}",
    "workflow.state_updated": _state,
    "workflow.approval_requested": lambda fields: str(fields.get("question", "")),
    "workflow.approval_decided": _decided,
    "workflow.checkpoint": lambda fields: f"{fields.get('step', '?')}: {fields.get('checkpoint_id', '?')}",
    "workflow.restored": lambda fields: f"to {fields.get('checkpoint_id', '?')}, version {fields.get('version', '?')}",
    "workflow.paused": lambda fields: f"by {fields.get('paused_by', '?')}: {fields.get('reason', '')}".rstrip(": "),
    "workflow.resumed": lambda fields: f"by {fields.get('resumed_by', '?')}: {fields.get('reason', '')}".rstrip(": "),
    "workflow.completed": lambda fields: _result(parsed(fields.get("result"))),
    "workflow.failed": lambda fields: str(fields.get("error", "")),
}
