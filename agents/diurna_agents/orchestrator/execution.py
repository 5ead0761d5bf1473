"""Does a decomposed task: hands each subtask to an agent, says so on the log, and joins the results: `execute_task`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import Field

from diurna import (
    AgentBroadcastEvent,
    AgentRequestEvent,
    AgentResponseEvent,
    AgentResponseStatus,
    Event,
    EventBus,
    RegistryClient,
)
from diurna.responses import command_id_of
from diurna_agents.language_model import LanguageModel
from diurna_agents.orchestrator.aggregation import Part, Policy, Status, aggregated
from diurna_agents.orchestrator.decomposition import DecomposeRequest, decomposed
from diurna_agents.orchestrator.plans import Plan, Subtask, filled, part_of
from diurna_agents.orchestrator.routing import candidates_for
from diurna_agents.payload import Payload, Words, validated
from diurna_agents.surroundings import Answer
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import DiurnaError, InvalidInput
from diurna_schemas.ids import Id, Name

ORCHESTRATOR: Final = "orchestrator"
_DISPATCHED: Final = "request.dispatched"
_ATTEMPTS_MAX: Final = 3
"""How many agents are asked where one after the other turns out to be offline."""
_PATIENCE_SECONDS: Final = 15.0
_AT_ONCE_MAX: Final = 10
_RESULT_CHARACTERS_MAX: Final = 24_000


class TaskRequest(Payload):
    """What `execute_task` takes: `subtasks` as `decompose_task` answers them, or a task to be taken apart first."""

    task_id: Id | None = None
    task: Words | None = None
    kind: Name | None = None
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    subtasks: list[dict[str, Any]] | None = Field(default=None, min_length=1, max_length=50)
    policy: Policy = "all"


async def execute_plan(
    payload: Mapping[str, object],
    *,
    workspace: Workspace,
    report: Report,
    request: AgentRequestEvent,
    bus: EventBus,
    registry: RegistryClient,
    model: LanguageModel | None = None,
) -> dict[str, Any] | Answer:
    """Does all subtasks, those side by side that do not wait for one another.

    Answers the `outcome` by the policy, the subtasks with their `status`, agent and request, their `results`, and the
    names of what `failed` and was `skipped`. Its status is "partial" where the policy holds and something is missing,
    "error" where it does not hold.
    """
    given = validated(TaskRequest, payload)
    if given.subtasks is not None:
        plan = Plan.of(given.subtasks)
    else:
        wanted = DecomposeRequest(task=given.task, kind=given.kind, parameters=given.parameters)
        plan = (await decomposed(wanted, registry=registry, model=model)).plan
    task_id = given.task_id or request.request_id
    delegation = Delegation(bus, registry, task_id, request.correlation_id or task_id)
    await report("planned", {"task_id": task_id, "subtasks": [subtask.id for subtask in plan.subtasks]})
    parts = await delegation.run(plan, given.policy)
    found = aggregated(given.policy, parts)
    answer = {"task_id": task_id, **found, "subtasks": delegation.told(plan, parts)}
    answer["skipped"] = [part.id for part in parts if part.status == "skipped"]
    match found["outcome"]:
        case "success":
            return answer
        case "partial":
            return Answer("partial", answer, found["reason"])
        case _:
            first = next((f"{name}: {why}" for name, why in found["errors"].items()), "")
            return Answer("error", answer, f"{found['reason']}; {first}")


class Delegation:
    """One task under way. The ids of its requests follow from the task's: done again, it finds its first answers."""

    def __init__(self, bus: EventBus, registry: RegistryClient, task_id: str, correlation_id: str) -> None:
        self._bus = bus
        self._registry = registry
        self._task_id = task_id
        self._correlation_id = correlation_id
        self._results: dict[str, Any] = {}
        self._asked: dict[str, tuple[Subtask, str]] = {}
        self._accepted: set[str] = set()
        self._agents: dict[str, str] = {}
        self._requests: dict[str, str] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE_MAX)

    async def run(self, plan: Plan, policy: Policy) -> list[Part]:
        """The subtasks' ends, in the order of the plan."""
        by_id = {subtask.id: subtask for subtask in plan.subtasks}
        parts: dict[str, Part] = {}
        sorter = plan.sorter()
        sorter.prepare()
        running: dict[asyncio.Task[Part], str] = {}
        self._bus.subscribe(_DISPATCHED, self._hear)
        try:
            await self._bus.ready()
            while sorter.is_active():
                for name in sorted(sorter.get_ready()):
                    why = self._why_not(by_id[name], parts, policy)
                    if why is not None:
                        parts[name] = Part(id=name, status="skipped", error=why)
                        sorter.done(name)
                    else:
                        running[asyncio.create_task(self._done(by_id[name]))] = name
                if not running:
                    continue
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    name = running.pop(task)
                    parts[name] = task.result()
                    sorter.done(name)
        finally:
            self._bus.unsubscribe(_DISPATCHED, self._hear)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return [parts[subtask.id] for subtask in plan.subtasks]

    def told(self, plan: Plan, parts: list[Part]) -> list[dict[str, Any]]:
        """Each subtask with how it ended."""
        return [
            {
                "id": subtask.id,
                "request_type": subtask.request_type,
                "agent": self._agents.get(subtask.id),
                "request_id": self._requests.get(subtask.id),
                "status": part.status,
                "error": part.error,
            }
            for subtask, part in zip(plan.subtasks, parts, strict=True)
        ]

    @staticmethod
    def _why_not(subtask: Subtask, parts: Mapping[str, Part], policy: Policy) -> str | None:
        missing = sorted(name for name in subtask.waits_for if parts[name].status not in {"success", "partial"})
        if missing:
            return f"it waits for {missing[0]}, which did not succeed"
        failed = [name for name, part in parts.items() if part.status not in {"success", "partial"}]
        return f"{failed[0]} did not succeed, and all must" if failed and policy == "all" else None

    async def _done(self, subtask: Subtask) -> Part:
        async with self._at_once:
            try:
                payload = filled(subtask.payload, self._results)
                return await self._asked_until_somebody_is_there(subtask, payload)
            except InvalidInput as error:
                await self._tell("task.rejected", subtask, None, 0, {"reason": str(error)})
                return Part(id=subtask.id, status="rejected", error=str(error))
            except DiurnaError as error:
                # The registry or the log did not answer: this subtask's end, and not the others'.
                return Part(id=subtask.id, status="error", error=f"{type(error).__name__}: {error}")

    async def _asked_until_somebody_is_there(self, subtask: Subtask, payload: dict[str, Any]) -> Part:
        offline: list[str] = []
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            agent_id = await self._agent_for(subtask, offline)
            if agent_id is None:
                why = f"no agent can take {subtask.request_type}" + (
                    f"; offline: {', '.join(offline)}" if offline else ""
                )
                await self._tell("task.rejected", subtask, None, attempt, {"reason": why})
                return Part(id=subtask.id, status="rejected", error=why)
            response = await self._ask(subtask, agent_id, payload, attempt)
            if response.metadata.get("code") != "agent_offline" or subtask.agent is not None:
                return await self._ended(subtask, agent_id, attempt, response)
            await self._tell("task.rejected", subtask, agent_id, attempt, {"reason": response.error})
            offline.append(agent_id)
        return Part(id=subtask.id, status="rejected", error=f"all that were asked are offline: {', '.join(offline)}")

    async def _agent_for(self, subtask: Subtask, offline: list[str]) -> str | None:
        if subtask.agent is not None:
            return subtask.agent
        excluded = [*offline, ORCHESTRATOR]
        candidates = await candidates_for(self._registry, subtask.request_type, excluded=excluded)
        return next((one.agent_id for one in candidates if one.why_not is None), None)

    async def _ask(self, subtask: Subtask, agent_id: str, payload: dict[str, Any], attempt: int) -> AgentResponseEvent:
        # The same question of the same agent is the same request, also when this task is done a second time.
        request_id = command_id_of("task", self._task_id, subtask.id, agent_id, str(attempt))
        self._asked[request_id] = subtask, agent_id
        self._agents[subtask.id], self._requests[subtask.id] = agent_id, request_id
        await self._tell("task.delegated", subtask, agent_id, attempt, {"request_id": request_id})
        try:
            return await self._bus.request_agent(
                AgentRequestEvent(
                    request_id=request_id,
                    source_agent=ORCHESTRATOR,
                    target_agent=agent_id,
                    request_type=subtask.request_type,
                    payload=payload,
                    timeout_seconds=subtask.timeout_seconds,
                    correlation_id=self._correlation_id,
                    metadata={"task_id": self._task_id, "subtask_id": subtask.id},
                ),
                timeout=subtask.timeout_seconds + _PATIENCE_SECONDS,
            )
        except DiurnaError as error:
            return AgentResponseEvent(
                request_id=request_id,
                source_agent=agent_id,
                target_agent=ORCHESTRATOR,
                status=AgentResponseStatus.ERROR,
                error=f"{type(error).__name__}: {error}",
            )

    async def _ended(self, subtask: Subtask, agent_id: str, attempt: int, response: AgentResponseEvent) -> Part:
        status: Status = response.status.value
        if "instance_id" in response.metadata:
            await self._accept(response.request_id, response.metadata["instance_id"], response.metadata.get("attempt"))
        details: dict[str, Any] = {"request_id": response.request_id, "status": status}
        if status in {"success", "partial"}:
            self._results[subtask.id] = response.result
            await self._tell("task.completed", subtask, agent_id, attempt, details)
        else:
            kind = "task.rejected" if status == "rejected" else "task.failed"
            await self._tell(kind, subtask, agent_id, attempt, {**details, "reason": response.error})
        return Part(
            id=subtask.id, agent=agent_id, status=status, result=_bounded(response.result), error=response.error
        )

    async def _hear(self, event: Event) -> None:
        request_id = part_of("request.request_id", event.data)
        if isinstance(request_id, str) and request_id in self._asked:
            await self._accept(request_id, event.data.get("instance_id"), event.data.get("attempt"))

    async def _accept(self, request_id: str, instance_id: Any, attempt: Any) -> None:
        """Said once, when an instance has the request in hand."""
        if request_id in self._accepted:
            return
        self._accepted.add(request_id)
        subtask, agent_id = self._asked[request_id]
        details = {"request_id": request_id, "instance_id": instance_id}
        await self._tell("task.accepted", subtask, agent_id, int(attempt or 1), details)

    async def _tell(
        self, event_type: str, subtask: Subtask, agent_id: str | None, attempt: int, details: Mapping[str, Any]
    ) -> None:
        payload = {
            "task_id": self._task_id,
            "subtask_id": subtask.id,
            "subtask": subtask.as_json() if event_type == "task.delegated" else {"id": subtask.id},
            "target_agent": agent_id,
            "attempt": attempt,
            **details,
        }
        broadcast_id = command_id_of(event_type, self._task_id, subtask.id, str(agent_id), str(attempt))
        await self._bus.broadcast_to_agents(
            AgentBroadcastEvent(
                broadcast_id=broadcast_id,
                source_agent=ORCHESTRATOR,
                event_type=event_type,
                payload=payload,
                metadata={"correlation_id": self._correlation_id},
            )
        )


def _bounded(result: object) -> object:
    """A result small enough to stand beside others; the whole one is the answer of its own request."""
    text = json.dumps(result, default=str)
    if len(text) <= _RESULT_CHARACTERS_MAX:
        return result
    if not isinstance(result, Mapping):
        return {"left_out": f"{len(text)} characters"}
    fields = cast("Mapping[str, object]", result)
    sizes = {name: len(json.dumps(value, default=str)) + len(name) + 6 for name, value in fields.items()}
    kept: dict[str, object] = {}
    room = _RESULT_CHARACTERS_MAX
    for name in sorted(sizes, key=sizes.__getitem__):
        room -= sizes[name]
        if room < 0:
            break
        kept[name] = fields[name]
    return {**kept, "left_out": sorted(fields.keys() - kept.keys())}
