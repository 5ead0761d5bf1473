"""Takes a task apart into requests that agents can do: by a template, or by a language model: `decompose_task`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field

from diurna import RegistryClient
from diurna_agents.errors import NeedsModel
from diurna_agents.language_model import LanguageModel
from diurna_agents.orchestrator.plans import RESULT, SUBTASKS_MAX, Plan, part_of
from diurna_agents.orchestrator.templates import TEMPLATES, kind_of, planned
from diurna_agents.payload import Payload, Words, validated
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import DiurnaError, InvalidInput
from diurna_schemas.ids import Name

_ATTEMPTS_MAX: Final = 2
_INSTRUCTIONS: Final = (
    "You take a task apart into requests for agents. Answer with one JSON object and nothing else:\n"
    '{"subtasks": [{"id": "lower-case-name", "description": "…", "request_type": "…", "payload": {}, '
    '"depends_on": ["id"]}]}\n'
    f"At most {SUBTASKS_MAX} subtasks. Only the request types that are listed exist; a payload has the fields their "
    f'documentation names. {{"{RESULT}": "id.part.of.result"}} in a payload stands for a part of another result. '
    "Subtasks that do not depend on one another are done side by side."
)


class DecomposeRequest(Payload):
    """What `decompose_task` takes. Without a `kind`, the task's words tell it; `planner` says who may plan."""

    task: Words | None = None
    kind: Name | None = None
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    planner: Literal["auto", "template", "model"] = "auto"


@dataclass(frozen=True, slots=True)
class Decomposed:
    """A plan, and who made it."""

    plan: Plan
    kind: str | None
    planner: str
    notes: list[str]


async def decompose_task(
    payload: Mapping[str, object],
    *,
    workspace: Workspace,
    report: Report,
    registry: RegistryClient | None = None,
    model: LanguageModel | None = None,
) -> dict[str, Any]:
    """The subtasks of a task, in an order in which they can be done.

    Answers `subtasks`, the `waves` that can be done side by side, the `kind` and the `planner` (template, or the
    model's name), and `notes`.
    """
    request = validated(DecomposeRequest, payload)
    found = await decomposed(request, registry=registry, model=model)
    await report("planned", {"planner": found.planner, "subtasks": len(found.plan.subtasks)})
    return {
        "task": request.task,
        "kind": found.kind,
        "planner": found.planner,
        "subtasks": [subtask.as_json() for subtask in found.plan.subtasks],
        "waves": found.plan.waves(),
        "notes": found.notes,
    }


async def decomposed(
    request: DecomposeRequest, *, registry: RegistryClient | None, model: LanguageModel | None
) -> Decomposed:
    """Plans. Raises `InvalidInput` for a wrong parameter, `NeedsModel` where no template fits and there is none."""
    if request.task is None and request.kind is None:
        raise InvalidInput("task", request.task, "the task in words is needed, or its kind")
    if request.planner == "model" and model is None:
        raise NeedsModel.to("planning without a template", f"kinds with a template are {', '.join(TEMPLATES)}")
    notes: list[str] = []
    if model is not None and request.planner != "template" and request.task is not None and request.kind is None:
        try:
            plan = await _by_model(request, model, registry)
        except DiurnaError as error:
            if request.planner == "model":
                raise
            notes.append(f"the model made no plan: {error}")
        else:
            return Decomposed(plan, None, model.name, notes)
    kind = request.kind or kind_of(request.task or "")
    if kind is None:
        kinds = "; ".join(f"{template.kind} ({template.description})" for template in TEMPLATES.values())
        raise NeedsModel.to("a task that no template fits", f"or name its kind: {kinds}")
    if request.kind is None:
        notes.append(f"the words of the task tell that its kind is {kind}")
    return Decomposed(planned(kind, request.parameters), kind, "template", notes)


async def _by_model(request: DecomposeRequest, model: LanguageModel, registry: RegistryClient | None) -> Plan:
    """A model's plan, held to what there is; where it is wrong, the model is told once."""
    capabilities = await _capabilities(registry)
    known = {name for name, _ in capabilities}
    listed = "\n".join(f"- {name}: {description}" for name, description in capabilities)
    question = f"The task:\n{request.task}\n\nParameters: {json.dumps(request.parameters)}\n\nRequest types:\n{listed}"
    wrong = ""
    for attempt in range(_ATTEMPTS_MAX):
        said = await model.say(_INSTRUCTIONS, question + wrong)
        try:
            return _understood(said, known)
        except InvalidInput as error:
            if attempt == _ATTEMPTS_MAX - 1:
                raise
            wrong = f"\n\nYour last answer was wrong: {error}\nIt was:\n{said[:4_000]}"
    raise AssertionError("the last attempt returns or raises")


def _understood(said: str, known: set[str]) -> Plan:
    start, end = said.find("{"), said.rfind("}")
    try:
        found: object = json.loads(said[start : end + 1])
    except ValueError as error:
        raise InvalidInput("plan", said[:200], f"it is no JSON: {error}") from error
    plan = Plan.of(part_of("subtasks", found))
    for at, subtask in enumerate(plan.subtasks):
        if known and subtask.request_type not in known:
            raise InvalidInput(f"subtasks.{at}.request_type", subtask.request_type, "nobody has this capability")
    return plan


async def _capabilities(registry: RegistryClient | None) -> list[tuple[str, str]]:
    if registry is None:
        return []
    found = {one.name: one.description for agent in await registry.list_agents() for one in agent.capabilities}
    return sorted(found.items())
