"""Random commands about few workflows, so that writers meet at the same version: seeded."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from diurna_schemas.message import Command
from diurna_schemas.workflows import (
    CancelWorkflow,
    CompleteWorkflow,
    CreateWorkflow,
    DecideApproval,
    RequestApproval,
    TickWorkflows,
    UpdateWorkflowState,
)
from support.given import new_command_id

KINDS = ("create", "create", *("update",) * 6, "ask", "ask", "decide", "end", "tick")


@dataclass
class WorkflowsRandom:
    chance: random.Random
    log_ms: int = 1_790_000_000_000
    steps_ms: tuple[int, ...] = (0, 0, 1, 500, 5_000)
    numbers: int = 0
    sent: list[Command] = field(default_factory=list[Command])

    def next(self) -> tuple[Command, int]:
        self.log_ms += self.chance.choice(self.steps_ms)
        self.sent.append(self.command())
        return self.sent[-1], self.log_ms

    def command(self) -> Command:
        pick, command_id = self.chance.choice, new_command_id()
        workflow_id = f"workflow-{pick('abcd')}{self.numbers // 40}"
        self.numbers += 1
        approval_id = f"approval-{self.chance.randrange(6)}"
        match pick(KINDS):
            case "create":
                return CreateWorkflow(command_id=command_id, workflow_id=workflow_id, workflow_type="pr_deployment")
            case "update":
                return UpdateWorkflowState(
                    command_id=command_id, workflow_id=workflow_id, updates=f'{{"n":{self.numbers}}}',
                    expected_version=pick([None, 1, 2, 3, 4, 5]),
                )  # fmt: skip
            case "ask":
                return RequestApproval(
                    command_id=command_id, workflow_id=workflow_id, approval_id=approval_id, question="Deploy?",
                    expires_after_ms=pick([None, 1_000, 1_000, 5_000]),
                )  # fmt: skip
            case "decide":
                return DecideApproval(
                    command_id=command_id, workflow_id=workflow_id, approval_id=approval_id, is_approved=True,
                    decided_by="somebody",
                )  # fmt: skip
            case "end":
                return pick(
                    [
                        CompleteWorkflow(command_id=command_id, workflow_id=workflow_id),
                        CancelWorkflow(command_id=command_id, workflow_id=workflow_id),
                    ]
                )
            case _:
                return TickWorkflows(command_id=command_id, partition=0)
