"""What is said to workflows, from the words people use to the commands of the log; wrong input is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import orjson

from diurna.documents import given_list, json_text, validated
from diurna_schemas.errors import InvalidInput, TooLarge
from diurna_schemas.ids import checked_id
from diurna_schemas.merge_patch import DEPTH_MAX, is_too_deep, merged
from diurna_schemas.message import PAYLOAD_BYTES_MAX, Command
from diurna_schemas.workflows import (
    CompleteWorkflow,
    CreateWorkflow,
    FailWorkflow,
    RestoreWorkflow,
    TakeCheckpoint,
    UpdateWorkflowState,
    UpdateWorkflowStep,
)

JsonObject = dict[str, Any]
AnyCommand = TypeVar("AnyCommand", bound=Command)


def json_document(field: str, value: object) -> str:
    """A JSON object as text.

    Raises `InvalidInput` where it is no object, a key is no text, a number is not finite or it has too many levels,
    `TooLarge` above 256 KiB.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput(field, value, "a JSON object is expected")
    text = json_text(field, dict(cast("Mapping[str, Any]", value)))
    if is_too_deep(text):
        raise InvalidInput(field, "more", f"at most {DEPTH_MAX} levels of objects and lists are allowed")
    return text


def whole_number(field: str, given: object, most: int = 2**53) -> int | None:
    """A whole number from 1 on, or none: `True` is no number, and a text that looks like one is a mistake."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= most):
        return given
    raise InvalidInput(field, given, f"a whole number from 1 to {most} is expected")


def creation(
    command_id: str,
    workflow_id: str,
    workflow_type: str,
    *,
    initial_state: object,
    participating_agents: Iterable[str] = (),
    metadata: object = None,
    step: str | None = None,
) -> CreateWorkflow:
    """A workflow begins."""
    return validated(
        CreateWorkflow,
        {
            "command_id": command_id,
            "workflow_id": part_of_a_path("workflow_id", workflow_id),
            "workflow_type": workflow_type,
            "state": json_document("initial_state", initial_state),
            "participating_agents": given_list("participating_agents", participating_agents),
            "metadata": json_document("metadata", {} if metadata is None else metadata),
            "step": step,
        },
    )


def state_update(
    command_id: str, workflow_id: str, updates: object, agent_id: str | None, expected_version: int | None
) -> UpdateWorkflowState:
    """Its state changes."""
    return validated(
        UpdateWorkflowState,
        {
            "command_id": command_id,
            "workflow_id": workflow_id,
            "updates": json_document("updates", updates),
            "agent_id": agent_id,
            "expected_version": whole_number("expected_version", expected_version),
        },
    )


def step_update(
    command_id: str, workflow_id: str, step: str, agent_id: str | None, expected_version: int | None
) -> UpdateWorkflowStep:
    """It is at another step."""
    return validated(
        UpdateWorkflowStep,
        {
            "command_id": command_id,
            "workflow_id": workflow_id,
            "step": step,
            "agent_id": agent_id,
            "expected_version": whole_number("expected_version", expected_version),
        },
    )


def checkpoint(
    command_id: str, workflow_id: str, checkpoint_id: str, step_name: str, *, agent_id: str | None, data: object
) -> TakeCheckpoint:
    """Its state is to be kept."""
    return validated(
        TakeCheckpoint,
        {
            "command_id": command_id,
            "workflow_id": workflow_id,
            "checkpoint_id": part_of_a_path("checkpoint_id", checkpoint_id),
            "step": step_name,
            "agent_id": agent_id,
            "data": json_document("data", {} if data is None else data),
        },
    )


def restoration(
    command_id: str, workflow_id: str, checkpoint_id: str, agent_id: str | None, expected_version: int | None
) -> RestoreWorkflow:
    """It goes back to a checkpoint."""
    return validated(
        RestoreWorkflow,
        {
            "command_id": command_id,
            "workflow_id": workflow_id,
            "checkpoint_id": checkpoint_id,
            "agent_id": agent_id,
            "expected_version": whole_number("expected_version", expected_version),
        },
    )


def ending(
    command_id: str,
    workflow_id: str,
    *,
    error: str | None = None,
    result: object = None,
    updates: object = None,
) -> CompleteWorkflow | FailWorkflow:
    """It is done; with an `error`, it failed. Result and last updates together are at most 256 KiB."""
    said = {
        "command_id": command_id,
        "workflow_id": workflow_id,
        "result": None if result is None else json_text("result", result),
        "updates": None if updates is None else json_document("updates", updates),
    }
    size = len((said["result"] or "").encode()) + len((said["updates"] or "").encode())
    if size > PAYLOAD_BYTES_MAX:
        raise TooLarge("result and updates", size, PAYLOAD_BYTES_MAX)
    if error is None:
        return validated(CompleteWorkflow, said)
    return validated(FailWorkflow, {**said, "error": error})


def fork_of(
    command_id: str,
    workflow_id: str,
    source: Mapping[str, Any],
    taken: Mapping[str, Any],
    updates: object = None,
) -> CreateWorkflow:
    """A new workflow that begins as another would be, were it restored to a checkpoint, with `updates` on top.

    `source` is the other workflow's document, `taken` its checkpoint's, whole. The metadata name both.
    """
    patch = orjson.loads(json_document("updates", {} if updates is None else updates))
    state = merged(merged(taken["state_data"], taken["data"]), patch)
    origin = {
        "workflow_id": taken["workflow_id"],
        "checkpoint_id": taken["checkpoint_id"],
        "version": taken["version"],
    }
    return creation(
        command_id,
        workflow_id,
        source["workflow_type"],
        initial_state=state,
        participating_agents=source["participating_agents"],
        metadata={**source["metadata"], "forked_from": origin},
        step=taken["step_name"],
    )


def part_of_a_path(field: str, id: str) -> str:  # noqa: A002
    """What is made here must be found over HTTP again."""
    if "/" in checked_id(field, id):
        raise InvalidInput(field, id, "no '/' is allowed, because ids are parts of paths")
    if id in {".", ".."}:
        raise InvalidInput(field, id, "in a path it stands for another place")
    return id
