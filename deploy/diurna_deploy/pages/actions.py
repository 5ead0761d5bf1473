"""What people can do on the pages: each form is a write of the API's own, with an idempotency key of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from diurna_deploy.pages.asking import MIN_POSITION, Answer, Asking, Refusal, path_of
from diurna_deploy.pages.shown import query_of

FORM_BYTES_MAX: Final = 64 * 1024
FIELDS_MAX: Final = 20
_KEY: Final = "key"

Fields = dict[str, str]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """How a form becomes the body of a write, and which page is shown afterwards."""

    body: Callable[[Fields], Document]
    then: Callable[[Mapping[str, str], Fields, Answer], str]


async def done(action: Action, request: Request, asking: Asking) -> str:
    """Writes, and returns the address of the page to show: it waits for what was written. Raises `Refusal`."""
    fields = await _fields(request)
    key = fields.pop(_KEY, None)
    body = action.body(fields)
    raw: str = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0]
    answered = await asking.ask("POST", raw, None, body, idempotency_key=key)
    where = action.then(request.path_params, fields, answered)
    return where + query_of(**{MIN_POSITION: answered.position}) if answered.position else where


async def _fields(request: Request) -> Fields:
    """What was filled in. Raises `Refusal` where it is too much, or no form."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > FORM_BYTES_MAX:
            raise _refused(413, "Too large", f"the form is over {FORM_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(content.decode("ascii"), max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise _refused(422, "Invalid input", f"the form cannot be read: {error}") from error
    return {name: value.strip() for name, value in pairs if value.strip()}


def _given(*names: str) -> Callable[[Fields], Document]:
    """A body of these fields, those left empty left out."""

    def body(fields: Fields) -> Document:
        return {name: fields[name] for name in names if name in fields}

    return body


def _decision(fields: Fields) -> Document:
    roles = [role.strip() for role in fields.get("roles", "").split(",") if role.strip()]
    return {**_given("decided_by", "reason", "workflow_id")(fields), "roles": roles}


def _fork(fields: Fields) -> Document:
    body = _given("checkpoint_id", "workflow_id")(fields)
    if (text := fields.get("set")) is not None:
        try:
            body["set"] = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise _refused(
                422, "Invalid input", f"set: a JSON object is expected ({error}), got {text[:80]!r}"
            ) from error
    return body


def _refused(status: int, title: str, detail: str) -> Refusal:
    return Refusal(status, {"title": title, "detail": detail, "status": status})


def _workflow(parts: Mapping[str, str], fields: Fields, answered: Answer) -> str:
    return path_of("workflows", parts["workflow_id"])


def _forked(parts: Mapping[str, str], fields: Fields, answered: Answer) -> str:
    return path_of("workflows", answered.document["workflow_id"])


def _decided(parts: Mapping[str, str], fields: Fields, answered: Answer) -> str:
    return path_of("workflows", answered.document["workflow_id"])


def _request(parts: Mapping[str, str], fields: Fields, answered: Answer) -> str:
    return path_of("requests", parts["request_id"])


def _locks(parts: Mapping[str, str], fields: Fields, answered: Answer) -> str:
    return "/locks"


def _projections(parts: Mapping[str, str], fields: Fields, answered: Answer) -> str:
    return "/projections"


ACTIONS: Final[dict[str, Action]] = {
    "/workflows/{workflow_id}/cancel": Action(_given("cancelled_by", "reason"), _workflow),
    "/workflows/{workflow_id}/pause": Action(_given("paused_by", "reason"), _workflow),
    "/workflows/{workflow_id}/resume": Action(_given("resumed_by", "reason"), _workflow),
    "/workflows/{workflow_id}/fork": Action(_fork, _forked),
    "/approvals/{approval_id}/approve": Action(_decision, _decided),
    "/approvals/{approval_id}/reject": Action(_decision, _decided),
    "/requests/{request_id}/cancel": Action(_given("cancelled_by", "reason"), _request),
    "/locks/force-release": Action(_given("resource_id", "admin_agent_id", "reason"), _locks),
    "/projections/{name}/rebuild": Action(_given(), _projections),
    "/projections/{name}/verify": Action(_given(), _projections),
    "/projections/{name}/promote": Action(_given(), _projections),
}
