"""A second opinion on decisions about workflows: books kept from the events alone, which notice what must never be."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import orjson

from diurna_projections.folds import workflows as fold
from diurna_projections.tables import Tables
from diurna_schemas.message import Command, Event, Heading
from diurna_schemas.workflows import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    CheckpointTaken,
    CompleteWorkflow,
    CreateWorkflow,
    DecideApproval,
    FailWorkflow,
    PauseWorkflow,
    RequestApproval,
    RestoreWorkflow,
    ResumeWorkflow,
    TakeCheckpoint,
    UpdateWorkflowState,
    UpdateWorkflowStep,
    WorkflowCancelled,
    WorkflowCommandRefused,
    WorkflowCommandRepeated,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRemoved,
    WorkflowRestored,
    WorkflowResumed,
    WorkflowStateUpdated,
    WorkflowStepChanged,
)
from diurna_streams.deciders.rules import Rules
from diurna_streams.deciders.window import SPAN_MS
from diurna_streams.log.port import Record
from support.book import check_size
from support.given import START_MS, new_command_id

STATE_BYTES_MAX = 256 * 1024
"""Said again here: a rule that loses its bound must not take the check along."""
OVER = {WorkflowCompleted: "completed", WorkflowFailed: "failed", WorkflowCancelled: "cancelled"}
WORK = (WorkflowStateUpdated, WorkflowStepChanged, CheckpointTaken, WorkflowCompleted, WorkflowFailed,
        ApprovalRequested)  # fmt: skip
AT_VERSION = (UpdateWorkflowState, UpdateWorkflowStep, RestoreWorkflow)


@dataclass
class Paper:
    """One workflow as the events tell it. `versions` holds the state and step of every version there was."""

    version: int
    status: str
    state: dict[str, Any]
    step: str | None = None
    ended_ms: int | None = None
    versions: dict[int, tuple[dict[str, Any], str | None, str]] = field(default_factory=dict[int, Any])
    checkpoints: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = field(default_factory=dict[str, Any])
    open: dict[str, ApprovalRequested] = field(default_factory=dict[str, ApprovalRequested])
    settled: set[str] = field(default_factory=set[str])
    winners: dict[int, str] = field(default_factory=dict[int, str])
    events: list[tuple[Event, Record]] = field(default_factory=list[Any])


@dataclass
class WorkflowsBook:
    """Checks one decision after another; an `AssertionError` says which rule of rules was broken."""

    rules: Rules[Any, Any, Any]
    state: Any = None
    offset: int = 0
    now_ms: int = 0
    papers: dict[str, Paper] = field(default_factory=dict[str, Paper])
    seen: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    events: int = 0

    def __post_init__(self) -> None:
        self.state = self.rules.initial

    def put(self, command: Command, log_ms: int = START_MS) -> tuple[Any, ...]:
        heading = Heading(self.offset, log_ms)
        decision = self.rules.decide(self.state, command, heading)
        if self.offset % 4 == 0:
            again = self.rules.load(orjson.loads(orjson.dumps(self.rules.dump(self.state))))
            assert self.rules.decide(again, command, heading).events == decision.events, "a restarted decider differs"
        check_size(decision.events)
        folded = self.state
        for event in decision.events:
            folded = self.rules.evolve(folded, event, self.offset)
        assert self.fingerprint(folded) == self.fingerprint(decision.state), "the state is not the fold of the events"
        now_ms = max(self.now_ms, log_ms)
        self.check_answer(command, decision.events, now_ms)
        for event in decision.events:
            assert (event.at_ms, event.command_id) == (now_ms, command.command_id)
            self.take(command, event)
            self.events += 1
        if decision.events:
            self.now_ms = now_ms
            is_repeated = any(isinstance(event, WorkflowCommandRepeated) for event in decision.events)
            decided_at = self.seen[command.command_id][0] if is_repeated else self.offset
            self.seen[command.command_id] = (decided_at, now_ms)
        self.state = decision.state
        self.offset += 1
        self.check_state()
        return decision.events

    def fingerprint(self, state: Any) -> bytes:
        return orjson.dumps(self.rules.dump(state), option=orjson.OPT_SORT_KEYS)

    def check_answer(self, command: Command, events: tuple[Any, ...], now_ms: int) -> None:
        answers = [event for event in events if not isinstance(event, ApprovalExpired)]
        assert len(answers) == (0 if command.is_tick else 1), f"{len(answers)} answers to {command!r}"
        known = self.seen.get(command.command_id)
        repeated = [event for event in answers if isinstance(event, WorkflowCommandRepeated)]
        if repeated:
            assert known is not None, "it was never seen before"
            assert repeated[0].first_offset == known[0]
        elif answers and known is not None:
            assert now_ms - known[1] >= SPAN_MS, "a command was decided twice"

    def take(self, command: Any, event: Any) -> None:
        match event:
            case WorkflowCommandRepeated():
                return
            case WorkflowCommandRefused():
                paper = self.papers.get(event.workflow_id)
                assert event.version == (0 if paper is None else paper.version), "the refusal names another version"
                return
            case WorkflowCreated():
                assert event.workflow_id not in self.papers, "created twice"
                assert event.version == 1
                paper = self.papers[event.workflow_id] = Paper(0, "running", json.loads(event.state), event.step)
            case _:
                paper = self.papers[event.workflow_id]
        assert paper.ended_ms is None or isinstance(event, WorkflowRemoved), "something happened after the end"
        assert paper.status != "paused" or not isinstance(event, WORK), "somebody worked on it while it was paused"
        self.turn(paper, event)
        is_answer = not isinstance(event, ApprovalExpired)
        if is_answer and isinstance(command, AT_VERSION) and command.expected_version is not None:
            expected = command.expected_version
            assert expected not in paper.winners, "two winners at one version"
            assert expected == event.version - 1, "won at another version than it expected"
            paper.winners[expected] = event.command_id
        place = Record(event.topic, 0, self.events, event.at_ms, None, None, ())
        paper.events.append((event, place))

    def turn(self, paper: Paper, event: Any) -> None:
        match event:
            case WorkflowStateUpdated():
                patch(paper.state, json.loads(event.updates))
            case WorkflowStepChanged():
                paper.step = event.step
            case CheckpointTaken():
                assert event.version == paper.version, "a checkpoint changes no version"
                assert event.checkpoint_id not in paper.checkpoints, "taken twice"
                then = copy.deepcopy(paper.state)
                paper.checkpoints[event.checkpoint_id] = (then, json.loads(event.data), event.step)
                return
            case WorkflowRestored():
                then, data, paper.step = copy.deepcopy(paper.checkpoints[event.checkpoint_id])
                patch(then, copy.deepcopy(data))
                assert json.loads(event.state) == then, "restored to something else than the checkpoint"
                assert json.loads(event.data) == data
                paper.state = then
            case WorkflowPaused():
                assert paper.status == "running"
                paper.status = "paused"
            case WorkflowResumed():
                assert paper.status == "paused"
                paper.status = "running"
            case WorkflowCompleted() | WorkflowFailed() | WorkflowCancelled():
                updates = getattr(event, "updates", None)
                patch(paper.state, json.loads(updates or "{}"))
                paper.status, paper.ended_ms = OVER[type(event)], event.at_ms
                paper.open.clear()
            case WorkflowRemoved():
                assert paper.ended_ms is not None, "removed while it lived"
                del self.papers[event.workflow_id]
                return
            case WorkflowCreated():
                pass
            case _:
                self.turn_approval(paper, event)
                return
        assert event.version == paper.version + 1, f"version {event.version} follows {paper.version}"
        paper.version = event.version
        paper.versions[event.version] = (copy.deepcopy(paper.state), paper.step, paper.status)

    def turn_approval(self, paper: Paper, event: Any) -> None:
        match event:
            case ApprovalRequested():
                assert event.approval_id not in paper.open.keys() | paper.settled, "asked twice"
                paper.open[event.approval_id] = event
            case ApprovalDecided() | ApprovalExpired():
                asked = paper.open.pop(event.approval_id)
                paper.settled.add(event.approval_id)
                if isinstance(event, ApprovalDecided):
                    assert not asked.roles or set(asked.roles) & set(event.roles), (
                        "decided by somebody without the role"
                    )
                    assert asked.expires_at_ms is None or event.at_ms < asked.expires_at_ms, "decided too late"
                else:
                    assert asked.expires_at_ms is not None
                    assert event.at_ms >= asked.expires_at_ms, "expired too early"
            case _:
                raise AssertionError(f"what is {event!r}?")

    def check_state(self) -> None:
        assert set(self.state.workflows) == set(self.papers)
        for workflow_id, paper in self.papers.items():
            known = self.state.workflows[workflow_id]
            assert (known.version, known.status) == (paper.version, paper.status)
            assert len(orjson.dumps(paper.state)) <= STATE_BYTES_MAX, "the state outgrew its bound"
            assert set(known.approvals) == set(paper.open)
            if paper.ended_ms is None:
                assert known.state == orjson.dumps(paper.state), "the decider remembers another state"
                kept = [one.checkpoint_id for one in known.checkpoints]
                assert kept == list(paper.checkpoints)[-len(kept) :] if kept else not paper.checkpoints
            else:
                assert (known.state, known.checkpoints) == (b"{}", ()), "what is over is not to be remembered"

    def check_versions(self) -> int:
        """Folds each workflow's events anew, with the fold of the tables: every version must come out as it was."""
        checked = 0
        for workflow_id, paper in self.papers.items():
            tables = Tables()
            for event, place in paper.events:
                fold.fold(tables, event, place)
                row = tables.workflows.get(workflow_id)
                assert row is not None
                if getattr(event, "version", None) is not None:
                    assert (row.state, row.current_step, row.status) == paper.versions[row.version]
                    checked += 1
            found = {one.checkpoint_id: paper.versions[one.version][0] for one in tables.workflow_checkpoints}
            assert found == {name: then for name, (then, _, _) in paper.checkpoints.items()}
        return checked


def patch(state: dict[str, Any], updates: dict[str, Any]) -> None:
    """JSON Merge Patch once more, in place, so that nobody's sharing is believed."""
    assert isinstance(updates, dict), f"{updates!r} changes no state"
    for name, value in updates.items():
        if value is None:
            state.pop(name, None)
        elif isinstance(value, dict):
            if not isinstance(state.get(name), dict):
                state[name] = {}
            patch(state[name], value)
        else:
            state[name] = value


# --- commands in short --------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def create(workflow_id: str = "w", state: Any = None, **fields: Any) -> CreateWorkflow:
    return CreateWorkflow(
        **{"command_id": new_command_id(), "workflow_type": "test", **fields},
        workflow_id=workflow_id,
        state=json.dumps({} if state is None else state),
    )


def update(updates: Any, workflow_id: str = "w", *, at: int | None = None, **fields: Any) -> UpdateWorkflowState:
    return UpdateWorkflowState(
        **{"command_id": new_command_id(), **fields},
        workflow_id=workflow_id,
        updates=updates if isinstance(updates, str) else json.dumps(updates),
        expected_version=at,
    )


def step(name: str, workflow_id: str = "w", *, at: int | None = None) -> UpdateWorkflowStep:
    return UpdateWorkflowStep(command_id=new_command_id(), workflow_id=workflow_id, step=name, expected_version=at)


def checkpoint(checkpoint_id: str, data: Any = None, workflow_id: str = "w", *, step: str = "here") -> TakeCheckpoint:
    return TakeCheckpoint(
        command_id=new_command_id(),
        workflow_id=workflow_id,
        checkpoint_id=checkpoint_id,
        step=step,
        data=json.dumps({} if data is None else data),
    )


def restore(checkpoint_id: str, workflow_id: str = "w", *, at: int | None = None) -> RestoreWorkflow:
    return RestoreWorkflow(
        command_id=new_command_id(), workflow_id=workflow_id, checkpoint_id=checkpoint_id, expected_version=at
    )


def pause(workflow_id: str = "w") -> PauseWorkflow:
    return PauseWorkflow(command_id=new_command_id(), workflow_id=workflow_id, paused_by="ada", reason="wait")


def resume(workflow_id: str = "w") -> ResumeWorkflow:
    return ResumeWorkflow(command_id=new_command_id(), workflow_id=workflow_id, resumed_by="ada")


def complete(workflow_id: str = "w", updates: Any = None) -> CompleteWorkflow:
    said = None if updates is None else json.dumps(updates)
    return CompleteWorkflow(command_id=new_command_id(), workflow_id=workflow_id, result='{"ok":true}', updates=said)


def fail(workflow_id: str = "w") -> FailWorkflow:
    return FailWorkflow(command_id=new_command_id(), workflow_id=workflow_id, error="out of luck")


def ask(approval_id: str, workflow_id: str = "w", **fields: Any) -> RequestApproval:
    return RequestApproval(
        command_id=new_command_id(), workflow_id=workflow_id, approval_id=approval_id, question="Ship it?", **fields
    )


def say(approval_id: str, workflow_id: str = "w", *, is_approved: bool = True, **fields: Any) -> DecideApproval:
    return DecideApproval(
        **{"command_id": new_command_id(), "decided_by": "ada", **fields},
        workflow_id=workflow_id,
        approval_id=approval_id,
        is_approved=is_approved,
    )
