"""The commands and events of agents and of the requests between them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from diurna_schemas import topics
from diurna_schemas.ids import Id, Name
from diurna_schemas.message import TIMEOUT_MS_MAX, Command, Event, JsonText, Milliseconds, Offset, Part, SmallJson, Text

AgentStatus = Literal["active", "busy", "idle", "offline", "stale"]
SettableStatus = Literal["active", "busy", "idle", "offline"]
Priority = Literal["low", "normal", "high", "urgent"]
ResponseStatus = Literal["success", "error", "timeout", "rejected", "partial"]
Concurrency = Annotated[int, Field(ge=0, le=1000)]
TimeoutMs = Annotated[int, Field(gt=0, le=TIMEOUT_MS_MAX)]

STALE_AFTER_MS: Final = 60_000
"""Without a heartbeat for this long an instance is stale."""


class Capability(Part):
    """Something an agent can do. `parameters` is a JSON object; `cost_estimate` is in the author's own unit."""

    name: Name
    description: Text = ""
    parameters: SmallJson = "{}"
    cost_estimate: float | None = None
    tags: list[Text] = []


class AgentRequest(Part):
    """One agent asking another for work. `payload` and `metadata` are JSON objects."""

    request_id: Id
    source_agent: Name
    target_agent: Name
    request_type: Name
    payload: JsonText = "{}"
    priority: Priority = "normal"
    timeout_ms: TimeoutMs = 30_000
    attempt_timeout_ms: TimeoutMs | None = None
    attempts_max: Annotated[int, Field(ge=1, le=20)] = 3
    correlation_id: Id
    metadata: SmallJson = "{}"
    created_at_ms: Milliseconds


class _AgentsCommand(Command):
    topic: ClassVar[str] = topics.AGENTS.commands
    agent_id: Name

    @property
    def key(self) -> str:
        return self.agent_id


class RegisterAgent(_AgentsCommand):
    """An instance of an agent is there. `concurrency` is how many requests it takes at once; 0 takes none."""

    type_name: ClassVar[str] = "agent.register"
    instance_id: Id
    agent_name: Text
    base_url: Text = ""
    capabilities: list[Capability] = []
    concurrency: Concurrency = 0
    status: SettableStatus = "active"
    metadata: SmallJson = "{}"


class DeregisterAgent(_AgentsCommand):
    """An instance leaves; without `instance_id` all of them do."""

    type_name: ClassVar[str] = "agent.deregister"
    instance_id: Id | None = None
    reason: Text = ""


class ChangeStatus(_AgentsCommand):
    """An instance says how it is; without `instance_id` all of them do."""

    type_name: ClassVar[str] = "agent.change_status"
    instance_id: Id | None = None
    status: SettableStatus
    reason: Text = ""


class MarkStale(_AgentsCommand):
    """The monitor has not heard from an instance. `epoch` is the registration it means."""

    type_name: ClassVar[str] = "agent.mark_stale"
    instance_id: Id
    epoch: Offset
    last_heartbeat_ms: Milliseconds


class SubmitRequest(_AgentsCommand):
    """A request for the agent `agent_id`."""

    type_name: ClassVar[str] = "request.submit"
    request: AgentRequest

    @property
    def subject(self) -> str:
        return self.request.request_id

    @property
    def correlation(self) -> str | None:
        return self.request.correlation_id


class CompleteRequest(_AgentsCommand):
    """An instance answers the `attempt` it was given. `result` is any JSON value."""

    type_name: ClassVar[str] = "request.complete"
    request_id: Id
    instance_id: Id
    attempt: Annotated[int, Field(ge=1)]
    status: ResponseStatus
    result: JsonText | None = None
    error: Text | None = None
    metadata: SmallJson = "{}"
    processing_time_ms: Milliseconds = 0

    @property
    def subject(self) -> str:
        return self.request_id


class CancelRequest(_AgentsCommand):
    """Somebody no longer wants the answer."""

    type_name: ClassVar[str] = "request.cancel"
    request_id: Id
    cancelled_by: Name = "unknown"
    reason: Text = ""

    @property
    def subject(self) -> str:
        return self.request_id


class TickAgents(Command):
    """Time has passed. The key names the partition; it changes nothing but what is due."""

    type_name: ClassVar[str] = "agents.tick"
    topic: ClassVar[str] = topics.AGENTS.commands
    partition: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> str:
        return f"tick-{self.partition}"

    @property
    def is_tick(self) -> bool:
        return True


class _AgentsEvent(Event):
    topic: ClassVar[str] = topics.AGENTS.events
    agent_id: Name

    @property
    def key(self) -> str:
        return self.agent_id


class AgentRegistered(_AgentsEvent):
    """An instance is there. `epoch` is the command offset of this registration."""

    type_name: ClassVar[str] = "agent.registered"
    instance_id: Id
    agent_name: Text
    base_url: Text
    capabilities: list[Capability]
    concurrency: Concurrency
    status: SettableStatus
    metadata: SmallJson
    epoch: Offset


class AgentStatusChanged(_AgentsEvent):
    """An instance's status is now `status`; it was `previous`."""

    type_name: ClassVar[str] = "agent.status_change"
    instance_id: Id
    previous: AgentStatus
    status: AgentStatus
    reason: Text


class AgentWentStale(_AgentsEvent):
    """Nothing was heard from an instance for too long; what it was working on is given to others."""

    type_name: ClassVar[str] = "agent.went_stale"
    instance_id: Id
    epoch: Offset
    last_heartbeat_ms: Milliseconds


class AgentDeregistered(_AgentsEvent):
    """An instance has left; what it was working on is given to others."""

    type_name: ClassVar[str] = "agent.deregistered"
    instance_id: Id
    reason: Text


class _RequestEvent(_AgentsEvent):
    request_id: Id
    source_agent: Name
    correlation_id: Id

    @property
    def subject(self) -> str:
        return self.request_id

    @property
    def correlation(self) -> str | None:
        return self.correlation_id


class RequestSubmitted(_AgentsEvent):
    """A request was taken in; until `deadline_ms` somebody may answer it."""

    type_name: ClassVar[str] = "request.submitted"
    request: AgentRequest
    deadline_ms: Milliseconds

    @property
    def subject(self) -> str:
        return self.request.request_id

    @property
    def correlation(self) -> str | None:
        return self.request.correlation_id


class RequestDispatched(_AgentsEvent):
    """An instance is to work on the request until `deadline_ms`. Handlers run at least once."""

    type_name: ClassVar[str] = "request.dispatched"
    request: AgentRequest
    instance_id: Id
    attempt: Annotated[int, Field(ge=1)]
    deadline_ms: Milliseconds

    @property
    def subject(self) -> str:
        return self.request.request_id

    @property
    def correlation(self) -> str | None:
        return self.request.correlation_id


class AttemptTimedOut(_RequestEvent):
    """An instance did not answer its attempt in time; the request goes back to the queue."""

    type_name: ClassVar[str] = "request.attempt_timed_out"
    instance_id: Id
    attempt: Annotated[int, Field(ge=1)]


class RequestCompleted(_RequestEvent):
    """The first answer: the request is over. `result` is any JSON value."""

    type_name: ClassVar[str] = "request.completed"
    instance_id: Id
    attempt: Annotated[int, Field(ge=1)]
    status: ResponseStatus
    result: JsonText | None
    error: Text | None
    metadata: SmallJson
    processing_time_ms: Milliseconds


class RequestRejected(_AgentsEvent):
    """The request was never taken in: nobody is there, or the queue is full."""

    type_name: ClassVar[str] = "request.rejected"
    request: AgentRequest
    code: Name
    error: Text

    @property
    def subject(self) -> str:
        return self.request.request_id

    @property
    def correlation(self) -> str | None:
        return self.request.correlation_id


class RequestTimedOut(_RequestEvent):
    """Nobody answered by the deadline: the request is over."""

    type_name: ClassVar[str] = "request.timed_out"
    attempts: Annotated[int, Field(ge=0)]
    error: Text


class RequestCancelled(_RequestEvent):
    """Somebody no longer wants the answer: the request is over."""

    type_name: ClassVar[str] = "request.cancelled"
    cancelled_by: Name
    reason: Text


class RequestDeadLettered(_RequestEvent):
    """All attempts are spent: the request is over."""

    type_name: ClassVar[str] = "request.dead_lettered"
    attempts: Annotated[int, Field(ge=1)]
    error: Text


class ResponseLate(_RequestEvent):
    """An answer to a request that was over already: recorded, and without effect."""

    type_name: ClassVar[str] = "response.late"
    instance_id: Id
    attempt: Annotated[int, Field(ge=1)]
    status: ResponseStatus
    result: JsonText | None
    error: Text | None


class AgentCommandRefused(_AgentsEvent):
    """The state did not allow the command: nothing else happened."""

    type_name: ClassVar[str] = "agents.command_refused"
    command_type: Name
    about: Id
    code: Name
    reason: Text

    @property
    def subject(self) -> str:
        return self.about


class AgentCommandRepeated(_AgentsEvent):
    """The command had been decided before, at command offset `first_offset`: nothing else happened."""

    type_name: ClassVar[str] = "agents.command_repeated"
    command_type: Name
    about: Id
    first_offset: Offset

    @property
    def subject(self) -> str:
        return self.about


AgentsCommand = (
    RegisterAgent
    | DeregisterAgent
    | ChangeStatus
    | MarkStale
    | SubmitRequest
    | CompleteRequest
    | CancelRequest
    | TickAgents
)
AgentsEvent = (
    AgentRegistered
    | AgentStatusChanged
    | AgentWentStale
    | AgentDeregistered
    | RequestSubmitted
    | RequestDispatched
    | AttemptTimedOut
    | RequestCompleted
    | RequestRejected
    | RequestTimedOut
    | RequestCancelled
    | RequestDeadLettered
    | ResponseLate
    | AgentCommandRefused
    | AgentCommandRepeated
)
TerminalEvent = RequestCompleted | RequestRejected | RequestTimedOut | RequestCancelled | RequestDeadLettered
"""The one event that ends a request."""


class Heartbeat(Part):
    """A sign of life, on the topic of heartbeats; compacted by instance."""

    agent_id: Name
    instance_id: Id
    in_flight: Annotated[int, Field(ge=0)]
    status: AgentStatus
    sent_at_ms: Milliseconds
