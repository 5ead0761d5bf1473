"""Several results as one, by a stated policy: all, majority or best effort; what is missing is named. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from diurna_agents.orchestrator.plans import part_of
from diurna_agents.payload import Payload, validated
from diurna_agents.workspace import Report, Workspace

Policy = Literal["all", "majority", "best_effort"]
Status = Literal["success", "error", "timeout", "rejected", "partial", "skipped"]
_DONE: Final = frozenset({"success", "partial"})
_VOTERS_NAMED_MAX: Final = 50


class Part(Payload):
    """One result: who gave it, how it ended, what it is."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    agent: Annotated[str, StringConstraints(max_length=200)] | None = None
    status: Status
    result: Any = None
    error: Annotated[str, StringConstraints(max_length=8_000)] | None = None


class AggregateRequest(Payload):
    """What `aggregate_results` takes. `expected` are ids that should be there; `vote` is a path in each result."""

    policy: Policy = "all"
    results: tuple[Part, ...] = Field(max_length=500, strict=False)
    expected: tuple[str, ...] = Field(default=(), max_length=500, strict=False)
    vote: Annotated[str, StringConstraints(min_length=1, max_length=300)] | None = None


async def aggregate_results(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, Any]:
    """Judges the results by the policy.

    Answers `outcome` (success, partial, failed), `reason`, the ids that `succeeded`, `failed` and are `missing`, the
    results by id, and with `vote` the `decision`: the value most of them have, and who voted for what.
    """
    request = validated(AggregateRequest, payload)
    return aggregated(request.policy, request.results, expected=request.expected, vote=request.vote)


def aggregated(
    policy: Policy, parts: Sequence[Part], *, expected: Sequence[str] = (), vote: str | None = None
) -> dict[str, Any]:
    """What the results come to. Of two with the same id, the first that is good counts."""
    by_id: dict[str, Part] = {}
    for part in parts:
        if part.id not in by_id or (by_id[part.id].status not in _DONE and part.status in _DONE):
            by_id[part.id] = part
    succeeded = [part.id for part in by_id.values() if part.status in _DONE]
    failed = [part.id for part in by_id.values() if part.status not in _DONE]
    missing = [name for name in dict.fromkeys(expected) if name not in by_id]
    total = len(by_id) + len(missing)
    enough = {"all": total, "majority": total // 2 + 1, "best_effort": 1}[policy]
    is_whole = len(succeeded) == total and not any(part.status == "partial" for part in by_id.values())
    outcome = "failed" if len(succeeded) < enough or not total else "success" if is_whole else "partial"
    answer: dict[str, Any] = {
        "policy": policy,
        "outcome": outcome,
        "reason": f"{len(succeeded)} of {total} succeeded, {policy} needs {enough}",
        "succeeded": succeeded,
        "failed": failed,
        "missing": missing,
        "errors": {name: by_id[name].error or by_id[name].status for name in failed},
        "results": {name: by_id[name].result for name in succeeded},
    }
    if vote is not None:
        answer["decision"] = _decision(vote, [by_id[name] for name in succeeded], total)
    return answer


def _decision(path: str, parts: Sequence[Part], total: int) -> dict[str, Any]:
    """The value most results have at a path. It is decided where more than half of all that were expected agree."""
    votes: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    abstained: list[str] = []
    for part in parts:
        value = part_of(path, part.result)
        if value is None:
            abstained.append(part.id)
            continue
        key = json.dumps(value, sort_keys=True, default=str)
        values[key] = value
        votes.setdefault(key, []).append(part.id)
    counted = Counter({key: len(voters) for key, voters in votes.items()}).most_common()
    is_tied = len(counted) > 1 and counted[0][1] == counted[1][1]
    leader = counted[0] if counted and not is_tied else None
    return {
        "path": path,
        "value": values[leader[0]] if leader else None,
        "votes": leader[1] if leader else 0,
        "is_majority": bool(leader and 2 * leader[1] > total),
        "is_tied": is_tied,
        "by_value": [{"value": values[key], "by": votes[key][:_VOTERS_NAMED_MAX]} for key, _ in counted],
        "abstained": abstained,
    }
