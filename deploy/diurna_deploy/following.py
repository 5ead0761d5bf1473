"""Follows a workflow from its start to its end, as anybody can over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast
from urllib.parse import quote

from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.narration import parsed
from diurna_schemas.errors import Refused, Unavailable

_OVER: Final = frozenset(
    {"request.completed", "request.rejected", "request.timed_out", "request.cancelled", "request.dead_lettered"}
)
_LOOK_SECONDS: Final = 0.25
_AWAY_SECONDS: Final = 30.0
"""For how long the API may be away before following it is given up."""
_FOLLOW_SECONDS: Final = 7 * 86_400.0

Event = dict[str, Any]


class Reads(Protocol):
    """The API, as far as following needs it."""

    def get(self, path: str, **parameters: Any) -> Any: ...

    def get_all(self, path: str, **parameters: Any) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class End:
    """How a workflow ended."""

    workflow_id: str
    is_success: bool
    status: str
    reason: str
    final_result: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """The end as JSON; `final_result` is what the workflow itself says."""
        return {
            "workflow_id": self.workflow_id,
            "success": self.is_success,
            "status": self.status,
            # The name the status of a deployment has always had.
            **({"deployment_status": self.status} if "deployment_status" in self.final_result else {}),
            "reason": self.reason,
            "final_result": self.final_result,
        }

    def in_words(self) -> str:
        """The end in a line."""
        return f"{self.status}: {self.reason}" if self.reason else self.status


def timeline(api: Reads, correlation_id: str) -> list[Event]:
    """Every event of one piece of work, in order; none where there is no such work."""
    try:
        return cast("list[Event]", api.get_all(f"/timeline/{quote(correlation_id, safe='')}"))
    except Refused as error:
        if error.code == "not_found":
            return []
        raise


def follow_workflow(api: Reads, started: Mapping[str, Any], *, tell: Callable[[Event], object]) -> list[Event]:
    """Tells each event once it is there, and returns all of them, in order, when the workflow is over.

    Raises `Unavailable` where the API is away for too long.
    """
    told: set[str] = set()
    request_id = str(started["request_id"])

    def look() -> list[Event] | None:
        events = timeline(api, str(started["workflow_id"]))
        for event in events:
            if event["position"] not in told:
                told.add(str(event["position"]))
                tell(event)
        return events if any(_ends(event, request_id) for event in events) else None

    patient = Retrying(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(_AWAY_SECONDS),
        wait=wait_fixed(_LOOK_SECONDS),
        reraise=True,
    )
    until_over = Retrying(
        retry=retry_if_result(lambda events: events is None),
        stop=stop_after_delay(_FOLLOW_SECONDS),
        wait=wait_fixed(_LOOK_SECONDS),
    )
    return cast("list[Event]", until_over(lambda: patient.copy()(look)))


def _ends(event: Event, request_id: str) -> bool:
    return event.get("type") in _OVER and event.get("subject") == request_id


def end_of(api: Reads, started: Mapping[str, Any]) -> End:
    """How the workflow ended, read from the answer of the agent that drove it."""
    workflow_id = str(started["workflow_id"])
    request = api.get(f"/requests/{quote(str(started['request_id']), safe='')}")
    response = request.get("response") or request
    result = parsed(response.get("result"))
    if isinstance(result, dict):
        final = cast("dict[str, Any]", result)
        answered = response.get("status") == "success"  # what a workflow of one's own says need not say how it ended
        status = str(final.get("status", "completed" if answered else "failed"))
        return End(workflow_id, final.get("success", answered) is True, status, str(final.get("reason", "")), final)
    return End(workflow_id, False, "failed", str(response.get("error") or request.get("error") or "no reason given"))
