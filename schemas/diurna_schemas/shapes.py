"""The JSON shapes people and other programs see: what the HTTP routes and the Python clients take and give."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from diurna_schemas.agents import AgentStatus, Concurrency, SettableStatus
from diurna_schemas.ids import Id, Name
from diurna_schemas.message import TIMEOUT_MS_MAX, Text
from diurna_schemas.workflows import WorkflowStatus

TIMEOUT_SECONDS_MAX = TIMEOUT_MS_MAX / 1000


class AgentRequestType(StrEnum):
    """What an agent can be asked for. Requests may also name types of their own."""

    REVIEW_CODE = "review_code"
    GENERATE_CODE = "generate_code"
    REFACTOR_CODE = "refactor_code"
    DEPLOY_SERVICE = "deploy_service"
    UPDATE_CONFIG = "update_config"
    HEALTH_CHECK = "health_check"
    RUN_PIPELINE = "run_pipeline"
    VALIDATE_BUILD = "validate_build"
    DEPLOY_ARTIFACT = "deploy_artifact"
    GENERATE_DOCS = "generate_docs"
    UPDATE_README = "update_readme"
    EXPLAIN_CODE = "explain_code"
    DECOMPOSE_TASK = "decompose_task"
    ROUTE_REQUEST = "route_request"
    AGGREGATE_RESULTS = "aggregate_results"
    QUERY_CAPABILITY = "query_capability"
    GET_STATUS = "get_status"
    EXECUTE_TASK = "execute_task"


class AgentRequestPriority(StrEnum):
    """How urgent a request is; `medium` is read as `normal`."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class AgentResponseStatus(StrEnum):
    """How a request ended."""

    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    REJECTED = "rejected"
    PARTIAL = "partial"


def _new_id() -> str:
    return str(uuid.uuid4())


def now() -> datetime:
    """The present, in UTC, to the millisecond."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _medium_is_normal(value: object) -> object:
    return "normal" if value == "medium" else value


def _own_type(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """A type of somebody's own that is none is told as one text, not as the choice of types there are."""
    try:
        return handler(value)
    except ValidationError as error:
        raise ValueError("1 to 128 letters, digits, '.', '_' or '-' are allowed") from error


def _zulu(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[AwareDatetime, AfterValidator(_utc), PlainSerializer(_zulu, when_used="json")]
"""A time, ISO 8601 UTC with milliseconds."""
Priority = Annotated[AgentRequestPriority, BeforeValidator(_medium_is_normal)]
JsonObject = dict[str, Any]
Seconds = Annotated[float, Field(strict=True, gt=0, le=TIMEOUT_SECONDS_MAX)]


class Shape(BaseModel):
    """A JSON document: unknown fields are refused, so that a misspelt one is not lost."""

    model_config = ConfigDict(extra="forbid", use_enum_values=False)


class AgentRequestEvent(Shape):
    """One agent asks another. `timeout_seconds` bounds the whole, `attempt_timeout_seconds` one instance's try."""

    request_id: Id = Field(default_factory=_new_id)
    source_agent: Name
    target_agent: Name
    request_type: Annotated[AgentRequestType | Name, Field(union_mode="left_to_right"), WrapValidator(_own_type)]
    payload: JsonObject = Field(default_factory=dict)
    priority: Priority = AgentRequestPriority.NORMAL
    timeout_seconds: Seconds = 30
    attempt_timeout_seconds: Seconds | None = None
    attempts_max: Annotated[int, Field(strict=True, ge=1, le=20)] = 3
    correlation_id: Id | None = None
    metadata: JsonObject = Field(default_factory=dict)
    created_at: Moment = Field(default_factory=now)


class AgentResponseEvent(Shape):
    """How it ended. `result` is what the handler returned; `error` says why there is none."""

    response_id: Id = Field(default_factory=_new_id)
    request_id: Id
    source_agent: Name
    target_agent: Name
    status: AgentResponseStatus
    result: Any = None
    error: str | None = None
    metadata: JsonObject = Field(default_factory=dict)
    created_at: Moment = Field(default_factory=now)
    processing_time_ms: float = 0
    position: str | None = None


class AgentBroadcastEvent(Shape):
    """An agent tells everyone, or `target_agents`."""

    broadcast_id: Id = Field(default_factory=_new_id)
    source_agent: Name
    target_agents: list[Name] = Field(default_factory=lambda: ["all"])
    event_type: Name
    payload: JsonObject = Field(default_factory=dict)
    priority: Priority = AgentRequestPriority.NORMAL
    metadata: JsonObject = Field(default_factory=dict)
    created_at: Moment = Field(default_factory=now)


class AgentCapability(Shape):
    """Something an agent can do."""

    name: Name
    description: Text = ""
    parameters: JsonObject = Field(default_factory=dict)
    cost_estimate: Annotated[float, Field(strict=True)] | None = None
    tags: list[Text] = Field(default_factory=list)


class AgentCapabilityQuery(Shape):
    """Who can do this? All keywords with `required_all`, else any."""

    capability_keywords: list[Text] = Field(min_length=1)
    required_all: Annotated[bool, Field(strict=True)] = False
    exclude_agents: list[Name] = Field(default_factory=list)
    min_confidence: Annotated[float, Field(strict=True)] = 0.0


class AgentRegistration(Shape):
    """An agent makes itself known. `concurrency` 0: it is listed, and takes no requests from the log."""

    agent_id: Name
    agent_name: Text = Field(min_length=1)
    base_url: Text = ""
    capabilities: list[AgentCapability] = Field(default_factory=list[AgentCapability])
    status: SettableStatus = "active"
    metadata: JsonObject = Field(default_factory=dict)
    instance_id: Id | None = None
    concurrency: Annotated[Concurrency, Field(strict=True)] = 0


class AgentInfo(Shape):
    """An agent as the registry knows it."""

    agent_id: Name
    agent_name: str
    base_url: str
    capabilities: list[AgentCapability]
    status: AgentStatus
    metadata: JsonObject
    last_heartbeat: Moment | None
    created_at: Moment
    updated_at: Moment
    instances: list[JsonObject] = Field(default_factory=list[JsonObject])


class CapabilityMatch(Shape):
    """An agent's capability that fits a search."""

    agent_id: Name
    agent_name: str
    capability: str
    description: str
    base_url: str
    tags: list[str]


class AgentHealth(Shape):
    """Whether an agent was heard from lately."""

    agent_id: Name
    agent_name: str
    status: AgentStatus
    last_heartbeat: Moment | None
    is_healthy: bool
    seconds_since_heartbeat: float | None


class WorkflowState(Shape):
    """A workflow at one of its versions. `position` is that of the event which brought it there."""

    workflow_id: Id
    workflow_type: Name
    status: WorkflowStatus
    current_step: str | None
    state_data: JsonObject
    participating_agents: list[str]
    metadata: JsonObject
    result: Any = None
    error_message: str | None
    version: int
    started_at: Moment
    updated_at: Moment
    completed_at: Moment | None
    position: str


class WorkflowCheckpoint(Shape):
    """A workflow's state as it was at `version`, kept under an id; `data` is what was noted beside it.

    `state_data` is there where one checkpoint was asked for, and left out of lists.
    """

    checkpoint_id: Id
    workflow_id: Id
    step_name: str
    agent_id: str | None
    data: JsonObject
    version: int
    created_at: Moment
    position: str
    state_data: JsonObject | None = None

    @property
    def checkpoint_data(self) -> JsonObject:
        """`data` under another name."""
        return self.data


class LockInfo(Shape):
    """A lock that is held. A provisional one came from the queue and was not claimed yet."""

    resource_id: Id
    lock_id: Id
    agent_id: Name
    fencing_token: int
    timeout: float
    acquired_at: Moment
    expires_at: Moment
    is_provisional: bool
    waited_seconds: float
    renewals: int
    reason: str
    metadata: JsonObject
    position: str


class LockWaiter(Shape):
    """Somebody who waits for a lock; `queue_position` 1 is next."""

    resource_id: Id
    lock_id: Id
    agent_id: Name
    queue_position: int
    timeout: float
    queued_at: Moment
    waits_until: Moment
    reason: str
    metadata: JsonObject
    position: str


LockStatus = Literal[
    "queued", "held", "released", "expired", "force_released", "wait_timed_out", "wait_cancelled", "denied"
]


class LockRecord(Shape):
    """One wish for a lock, from the first word to the last. `expires_at` is there while it is held."""

    resource_id: Id
    lock_id: Id
    agent_id: Name
    status: LockStatus
    fencing_token: int | None
    timeout: float | None
    asked_at: Moment
    acquired_at: Moment | None
    expires_at: Moment | None
    ended_at: Moment | None
    waited_seconds: float | None
    held_seconds: float | None
    renewals: int
    is_provisional: bool
    reason: str
    metadata: JsonObject
    ended_by: str | None
    end_reason: str | None
    position: str


class LockStatistics(Shape):
    """How a resource is fought for. `contention` is the part of all wishes that found it taken, from 0 to 1."""

    resource_id: Id
    wishes: int
    acquisitions: int
    queued: int
    denials: int
    releases: int
    expirations: int
    forced_releases: int
    wait_timeouts: int
    wait_cancellations: int
    renewals: int
    contention: float
    waited_seconds_mean: float | None
    waited_seconds_max: float
    held_seconds_mean: float | None
    held_seconds_max: float
    last_acquired_at: Moment | None
    position: str


class Problem(BaseModel):
    """RFC 9457: what was wrong, where, and with which value; after a lost race, which version is the current one."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    code: str | None = None
    errors: list[JsonObject] | None = None
    current_version: int | None = None

    @classmethod
    def of(cls, status: int, title: str, detail: str | None = None, *, code: str | None = None) -> Self:
        """A problem in short."""
        return cls(status=status, title=title, detail=detail, code=code)
