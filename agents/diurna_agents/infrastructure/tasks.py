"""Starts, stops and restarts declared services, and says how they stand: the agent's `execute_task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

from pydantic import Field

from diurna_agents.fence import LockClaim, shown
from diurna_agents.infrastructure.keeping import Kept, Standing
from diurna_agents.infrastructure.services import Declared, Service, declared, service_of
from diurna_agents.infrastructure.watching import until_healthy
from diurna_agents.payload import ServiceName, validated
from diurna_agents.workspace import Report, Workspace


class ServiceTask(Declared):
    """What `execute_task` takes here."""

    task: Literal["start_service", "stop_service", "restart_service", "service_status"]
    service: ServiceName
    wait_seconds: float = Field(default=60, ge=0, le=600, allow_inf_nan=False)
    lock: LockClaim | None = None


async def execute_task(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """One task on one declared service; a restart is a new process, told by its identity.

    Answers `done`, the `before` and `after` of the process (state, pid, birth, restarts), `healthy` with the `checks`
    of the started service, what is `declared` of how it is run, and the end of its `output`. Under a `lock` a stale
    token is refused, on arrival and once it is this task's turn, and nothing is stopped or started.
    """
    request = validated(ServiceTask, payload)
    service = service_of(await declared(request, workspace), request.service)
    kept = Kept(request.service, workspace)
    fence = await shown(kept.directory, request.lock)
    async with kept.alone(request.wait_seconds):
        await fence.show()  # a later holder may have been here while this task waited for its turn
        before = kept.standing()
        if request.task in {"stop_service", "restart_service"}:
            await kept.stop(service.stop_seconds)
            await report("stopped", {"service": request.service, "pid": before.pid})
        if request.task in {"start_service", "restart_service"}:
            started = await kept.start(service)
            await report("started", {"service": request.service, "pid": started.pid})
        return await _answer(request, service, kept, before, workspace)


async def _answer(
    request: ServiceTask, service: Service, kept: Kept, before: Standing, workspace: Workspace
) -> dict[str, object]:
    healthy: bool | None = None
    checks: list[dict[str, object]] = []
    if request.task != "stop_service":
        seconds = 0.0 if request.task == "service_status" else service.start_seconds
        found = await until_healthy(request.service, service, workspace, seconds)
        healthy, checks = all(check.healthy for check in found), [asdict(check) for check in found]
    after = kept.standing()
    return {
        "task": request.task,
        "service": request.service,
        "done": _is_done(request.task, before, after, healthy),
        "before": before.as_json(),
        "after": after.as_json(),
        "healthy": healthy,
        "checks": checks,
        "declared": {"command": service.command, "directory": service.directory, "restart": service.restart},
        "output": kept.output(),
    }


def _is_done(task: str, before: Standing, after: Standing, healthy: bool | None) -> bool:
    """Whether it came out as it was meant."""
    match task:
        case "stop_service":
            return not after.is_running
        case "restart_service":
            is_another = (after.pid, after.birth) != (before.pid, before.birth)
            return after.is_running and is_another and healthy is True
        case "start_service":
            return after.is_running and healthy is True
        case _:
            return True
