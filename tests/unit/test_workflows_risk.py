"""The approval policy `risk`: how much may go wrong with a change, and who is asked then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from diurna_schemas.workflows import RequestApproval
from diurna_workflows import WorkflowManager
from diurna_workflows.policy import risk_of
from support.workflow_fakes import APPROVED, INPUT, PASSED, BelievingLog, ScriptedBus


def sized(lines: int) -> dict[str, Any]:
    """A review that approves a change of so many lines."""
    return {**APPROVED, "observations": {"size": {"lines_to_read": lines}}}


@pytest.mark.parametrize(
    ("review", "tests", "level", "reason"),
    [
        (APPROVED, PASSED, "low", None),
        ({**APPROVED, "findings": [{}], "findings_total": 3}, PASSED, "medium", "3 remarks of the review"),
        (sized(500), PASSED, "medium", "500 changed lines"),
        (sized(1_001), PASSED, "high", "1001 changed lines"),
        ({**APPROVED, "observations": {}}, PASSED, "high", "how large the change is, is not known"),
        ({**APPROVED, "approved": False}, PASSED, "high", "the review did not approve"),
        (APPROVED, {"passed": False, "outcome": "no_tests"}, "high", "no test proved it: no_tests"),
        (
            {**APPROVED, "observations": {"size": {"lines_to_read": 9}, "tests": {"source_without_tests": True}}},
            PASSED,
            "medium",
            "source was changed, and no test",
        ),
    ],
)
def test_the_risk_of_a_change_is_told_with_its_reasons(
    review: dict[str, Any], tests: dict[str, Any], level: str, reason: str | None
) -> None:
    risk = risk_of(review, tests)
    assert (risk.level, risk.reasons) == (level, () if reason is None else (reason,))


async def test_the_policy_risk_approves_what_is_of_low_risk_and_says_why() -> None:
    bus = ScriptedBus()
    log = BelievingLog(bus)
    final = await WorkflowManager(bus, log).run("pr_deployment", "w-1", {**INPUT, "policy": "risk"})
    assert final["deployment_status"] == "deployed"
    assert final["approval"]["decided_by"] == "policy-risk"
    assert "risk low" in final["approval"]["reason"]
    assert json.loads(log.of(RequestApproval)[0].details)["risk"] == "low"


@pytest.mark.parametrize(("risk_max", "asks"), [("low", True), ("medium", False)])
async def test_above_the_risk_that_passes_a_person_with_the_role_is_asked(risk_max: str, asks: bool) -> None:
    bus = ScriptedBus()
    bus.answers["review_code"] = sized(500)
    log = BelievingLog(bus)
    given = {**INPUT, "policy": "risk", "risk_max": risk_max, "approval_roles": ["release"]}
    running = asyncio.create_task(WorkflowManager(bus, log).run("pr_deployment", "w-1", given))
    await asyncio.wait_for(log.approval_was_asked.wait(), 5)
    (question,) = log.of(RequestApproval)
    assert question.roles == (["release"] if asks else [])
    assert json.loads(question.details)["risk_reasons"] == ["500 changed lines"]
    if asks:
        fields = {"decided_by": "ada", "reason": "read it", "is_approved": True}
        bus.tell("workflow.approval_decided", approval_id=question.approval_id, **fields)
    final = await asyncio.wait_for(running, 5)
    assert final["approval"]["decided_by"] == ("ada" if asks else "policy-risk")
