"""What a PR deployment is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, Field

from diurna_agents.payload import AbsolutePath, Location, Payload, RefName, Text, can_be_split, validated
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Name
from diurna_workflows.policy import (
    AUTO_LINES_MAX,
    ApprovalPolicy,
    Decision,
    decide_automatically,
    decide_by_risk,
    never,
)


class PrDeploymentInput(Payload):
    """The repository, the two ends of the change, where to deploy it, and who approves."""

    repo: Location
    base: RefName
    head: RefName
    deploy_to: AbsolutePath
    policy: ApprovalPolicy = "auto"
    auto_lines_max: Annotated[int, Field(ge=0, le=1_000_000)] = AUTO_LINES_MAX
    risk_max: Literal["low", "medium"] = "low"
    approval_roles: Annotated[tuple[Name, ...], Field(max_length=20, strict=False)] = ()
    approval_timeout_seconds: Annotated[float, Field(gt=0, le=7 * 86_400, allow_inf_nan=False)] | None = None
    service: Text | None = None
    health: dict[str, Any] | None = None
    keep: Annotated[int, Field(ge=1, le=100)] | None = None
    review: dict[str, Any] | None = None
    test_command: (
        Annotated[Text, AfterValidator(can_be_split)]
        | Annotated[list[Text], Field(min_length=1, max_length=100)]
        | None
    ) = None
    test_timeout_seconds: Annotated[float, Field(gt=0, le=7_200, allow_inf_nan=False)] = 900

    @classmethod
    def read(cls, given: object) -> Self:
        """The input of a workflow. Raises `InvalidInput` naming the first wrong field and its value."""
        if not isinstance(given, Mapping):
            raise InvalidInput("input", given, "a JSON object with repo, base, head and deploy_to is needed")
        found = validated(cls, cast("Mapping[str, object]", given))
        found._hold_to_the_agents_words()
        return found

    def _hold_to_the_agents_words(self) -> None:
        """Refuses at once what an agent would refuse once a review, tests and an approval have gone before."""
        if self.review is not None:
            from diurna_agents.code_review.policy import Policy  # of agents only where somebody speaks to them

            validated(Policy, self.review, within="review")
        if self.health is not None:
            from diurna_agents.infrastructure.request import HealthRequest

            validated(HealthRequest, self.health, within="health")


def decided_by_policy(given: PrDeploymentInput, review: Mapping[str, Any], tests: Mapping[str, Any]) -> Decision | None:
    """What the policy says; none where a person is to be asked."""
    match given.policy:
        case "auto":
            return decide_automatically(review, tests, lines_max=given.auto_lines_max)
        case "risk":
            return decide_by_risk(review, tests, given.risk_max)
        case "human":
            return None
        case "never":
            return never()
