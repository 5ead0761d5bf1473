"""Histories for the projections' tests: chained events, seeded teams at work, and broken records among them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from diurna_schemas.agents import (
    AgentDeregistered,
    AgentRegistered,
    AgentRequest,
    AgentStatusChanged,
    AgentWentStale,
    AttemptTimedOut,
    Capability,
    Heartbeat,
    RequestCompleted,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
    RequestTimedOut,
    ResponseLate,
)
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, Headers, Link, chain_hash, cloud_event, event_headers
from diurna_schemas.message import Event
from diurna_schemas.records import Broadcast
from diurna_schemas.topics import BROADCASTS, HEARTBEATS, partition_of
from diurna_schemas.workflows import (
    ApprovalDecided,
    ApprovalRequested,
    CheckpointTaken,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowPaused,
    WorkflowRemoved,
    WorkflowRestored,
    WorkflowResumed,
    WorkflowStateUpdated,
    WorkflowStepChanged,
)
from diurna_streams.log.port import Record

START_MS = 1_790_000_000_000


@dataclass
class History:
    """A log in the making: every event is encoded, chained and placed as a decider would."""

    codec: Codec = field(default_factory=Codec.numbered)
    records: list[Record] = field(default_factory=list[Record])
    at_ms: int = START_MS
    _hashes: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    _ends: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    _commands: int = 0

    def next_command(self) -> str:
        self._commands += 1
        self.at_ms += 7
        return f"command-{self._commands}"

    def add(self, *events: Event) -> list[Record]:
        """Appends the events of one command."""
        added: list[Record] = []
        for index, event in enumerate(events):
            place = (event.topic, partition_of(event.key))
            value = self.codec.encode(event)
            previous = self._hashes.get(place, GENESIS)
            at = f"1.{self._commands}.{index}"
            digest = chain_hash(previous, at, event.type_name, event.key.encode(), value)
            link = Link(1, self._commands, index, previous, digest)
            headers = event_headers(event, link, partition=place[1], correlation_id=None, traceparent=None)
            added.append(self.append(*place, event.key.encode(), value, headers))
            self._hashes[place] = digest
        return added

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers) -> Record:
        """Appends any record at all."""
        place = (topic, partition)
        offset = self._ends.get(place, 0)
        self._ends[place] = offset + 1
        record = Record(topic, partition, offset, self.at_ms, key, value, headers)
        self.records.append(record)
        return record

    def poison(self, topic: str, partition: int, value: bytes = b"no avro at all") -> Record:
        """Appends bytes nobody understands, properly linked, as a broken owner would."""
        self.next_command()
        place = (topic, partition)
        previous = self._hashes.get(place, GENESIS)
        at = f"1.{self._commands}.0"
        digest = chain_hash(previous, at, "poison", b"k", value)
        headers = (
            ("ce_type", b"poison"),
            ("chain_at", at.encode()),
            ("chain_previous", previous.encode()),
            ("chain_hash", digest.encode()),
        )
        self._hashes[place] = digest
        return self.append(topic, partition, b"k", value, headers)

    def alien(self, event: Event) -> Record:
        """Appends an event of a zombie: it links to something that never was."""
        self._commands += 1
        link = Link(1, self._commands, 0, "f" * 32, "e" * 32)
        partition = partition_of(event.key)
        headers = event_headers(event, link, partition=partition, correlation_id=None, traceparent=None)
        return self.append(event.topic, partition, event.key.encode(), self.codec.encode(event), headers)

    def duplicate(self, record: Record) -> Record:
        """Appends an event again, as a second owner would."""
        return self.append(record.topic, record.partition, record.key, record.value, record.headers)

    def heartbeat(self, agent_id: str, instance_id: str) -> Record:
        beat = Heartbeat(
            agent_id=agent_id, instance_id=instance_id, in_flight=1, status="active", sent_at_ms=self.at_ms
        )
        return self.append(HEARTBEATS, partition_of(instance_id), instance_id.encode(), self.codec.encode(beat), ())

    def broadcast(self, event_type: str, data: dict[str, object], correlation_id: str | None = None) -> Record:
        broadcast = Broadcast(
            broadcast_id=self.next_command(),
            event_type=event_type,
            source_agent="tester",
            data=orjson.dumps(data).decode(),
            correlation_id=correlation_id,
            created_at_ms=self.at_ms,
        )
        headers = cloud_event(
            id=broadcast.broadcast_id,
            type_name=event_type,
            source="/tests",
            subject=event_type,
            at_ms=self.at_ms,
            correlation_id=correlation_id,
        )
        value = self.codec.encode(broadcast)
        return self.append(BROADCASTS, partition_of(event_type), event_type.encode(), value, headers)

    # --- the usual events -------------------------------------------------------------------------------

    def registered(self, agent_id: str, instance_id: str, *capabilities: str, status: str = "active") -> Record:
        command_id = self.next_command()
        event = AgentRegistered(
            command_id=command_id,
            at_ms=self.at_ms,
            agent_id=agent_id,
            instance_id=instance_id,
            agent_name=agent_id.title(),
            base_url=f"http://127.0.0.1/{instance_id}",
            capabilities=[
                Capability(name=name, description=f"does {name}", tags=["python"], cost_estimate=1.5)
                for name in capabilities
            ],
            concurrency=2,
            status=status,  # type: ignore[arg-type]
            metadata='{"zone":"a"}',
            epoch=self._commands,
        )
        return self.add(event)[0]

    def status_changed(self, agent_id: str, instance_id: str, status: str) -> Record:
        command_id = self.next_command()
        event = AgentStatusChanged(
            command_id=command_id,
            at_ms=self.at_ms,
            agent_id=agent_id,
            instance_id=instance_id,
            previous="active",
            status=status,  # type: ignore[arg-type]
            reason="",
        )
        return self.add(event)[0]

    def went_stale(self, agent_id: str, instance_id: str) -> Record:
        command_id = self.next_command()
        about = {"command_id": command_id, "at_ms": self.at_ms, "agent_id": agent_id, "instance_id": instance_id}
        return self.add(AgentWentStale(**about, epoch=1, last_heartbeat_ms=START_MS))[0]  # type: ignore[arg-type]

    def deregistered(self, agent_id: str, instance_id: str) -> Record:
        command_id = self.next_command()
        event = AgentDeregistered(
            command_id=command_id, at_ms=self.at_ms, agent_id=agent_id, instance_id=instance_id, reason="bye"
        )
        return self.add(event)[0]

    def request(self, request_id: str, agent_id: str, correlation_id: str = "work-1") -> AgentRequest:
        return AgentRequest(
            request_id=request_id,
            source_agent="tester",
            target_agent=agent_id,
            request_type="review_code",
            payload='{"path":"a.py"}',
            correlation_id=correlation_id,
            created_at_ms=self.at_ms,
        )

    def submitted(self, request: AgentRequest) -> list[Record]:
        """Submitted and dispatched by one command."""
        about = {"command_id": self.next_command(), "at_ms": self.at_ms, "agent_id": request.target_agent}
        deadline_ms = self.at_ms + request.timeout_ms
        return self.add(
            RequestSubmitted(**about, request=request, deadline_ms=deadline_ms),  # type: ignore[arg-type]
            RequestDispatched(
                **about,
                request=request,
                instance_id="one",
                attempt=1,
                deadline_ms=deadline_ms,  # type: ignore[arg-type]
            ),
        )

    def rejected(self, request: AgentRequest) -> Record:
        about = {"command_id": self.next_command(), "at_ms": self.at_ms, "agent_id": request.target_agent}
        return self.add(
            RequestRejected(**about, request=request, code="agent_offline", error="agent offline: x")  # type: ignore[arg-type]
        )[0]

    def _about_request(self, request: AgentRequest) -> dict[str, object]:
        return {
            "command_id": self.next_command(),
            "at_ms": self.at_ms,
            "agent_id": request.target_agent,
            "request_id": request.request_id,
            "source_agent": request.source_agent,
            "correlation_id": request.correlation_id,
        }

    def completed(self, request: AgentRequest, result: str | None = '{"ok":true}') -> Record:
        event = RequestCompleted(
            **self._about_request(request),  # type: ignore[arg-type]
            instance_id="one",
            attempt=1,
            status="success",
            result=result,
            error=None,
            metadata="{}",
            processing_time_ms=12,
        )
        return self.add(event)[0]

    def attempt_timed_out(self, request: AgentRequest) -> Record:
        return self.add(AttemptTimedOut(**self._about_request(request), instance_id="one", attempt=1))[0]  # type: ignore[arg-type]

    def timed_out(self, request: AgentRequest) -> Record:
        return self.add(RequestTimedOut(**self._about_request(request), attempts=1, error="too late"))[0]  # type: ignore[arg-type]

    def late(self, request: AgentRequest) -> Record:
        event = ResponseLate(
            **self._about_request(request),  # type: ignore[arg-type]
            instance_id="one",
            attempt=1,
            status="success",
            result="1",
            error=None,
        )
        return self.add(event)[0]

    def workflow_created(self, workflow_id: str, state: str = '{"step":0}') -> Record:
        event = WorkflowCreated(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            workflow_type="pr_deployment",
            state=state,
            participating_agents=["cicd"],
            metadata="{}",
            version=1,
            step=None,
        )
        return self.add(event)[0]

    def workflow_updated(self, workflow_id: str, version: int, updates: str) -> Record:
        event = WorkflowStateUpdated(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            updates=updates,
            agent_id="cicd",
            version=version,
        )
        return self.add(event)[0]

    def workflow_step(self, workflow_id: str, version: int, step: str) -> Record:
        event = WorkflowStepChanged(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            step=step,
            agent_id=None,
            version=version,
        )
        return self.add(event)[0]

    def workflow_completed(self, workflow_id: str, version: int) -> Record:
        event = WorkflowCompleted(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            result='{"done":1}',
            version=version,
            updates='{"last":{"word":true}}',
        )
        return self.add(event)[0]

    def workflow_checkpoint(self, workflow_id: str, version: int, checkpoint_id: str, data: str = "{}") -> Record:
        event = CheckpointTaken(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            checkpoint_id=checkpoint_id,
            step="testing",
            agent_id="cicd",
            data=data,
            version=version,
        )
        return self.add(event)[0]

    def workflow_restored(self, workflow_id: str, version: int, checkpoint_id: str, state: str) -> Record:
        event = WorkflowRestored(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            checkpoint_id=checkpoint_id,
            step="testing",
            state=state,
            data="{}",
            agent_id=None,
            version=version,
        )
        return self.add(event)[0]

    def workflow_paused(self, workflow_id: str, version: int) -> Record:
        about = {"command_id": self.next_command(), "at_ms": self.at_ms, "workflow_id": workflow_id}
        return self.add(WorkflowPaused(**about, paused_by="ada", reason="lunch", version=version))[0]  # type: ignore[arg-type]

    def workflow_resumed(self, workflow_id: str, version: int) -> Record:
        about = {"command_id": self.next_command(), "at_ms": self.at_ms, "workflow_id": workflow_id}
        return self.add(WorkflowResumed(**about, resumed_by="ada", reason="", version=version))[0]  # type: ignore[arg-type]

    def workflow_removed(self, workflow_id: str, version: int) -> Record:
        about = {"command_id": self.next_command(), "at_ms": self.at_ms, "workflow_id": workflow_id}
        return self.add(WorkflowRemoved(**about, version=version))[0]  # type: ignore[arg-type]

    def approval_requested(self, workflow_id: str, approval_id: str) -> Record:
        event = ApprovalRequested(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            approval_id=approval_id,
            question="deploy?",
            details="{}",
            expires_at_ms=None,
            roles=["release"],
        )
        return self.add(event)[0]

    def approval_decided(self, workflow_id: str, approval_id: str, *, is_approved: bool = True) -> Record:
        event = ApprovalDecided(
            command_id=self.next_command(),
            at_ms=self.at_ms,
            workflow_id=workflow_id,
            approval_id=approval_id,
            is_approved=is_approved,
            decided_by="ada",
            reason="fine",
            roles=["release"],
        )
        return self.add(event)[0]


def busy_team(seed: int, steps: int, *, codec: Codec | None = None, agents: int = 7) -> History:
    """A seeded history of a team at work, with aliens, duplicates and poison among it."""
    chance = random.Random(seed)
    history = History(codec or Codec.numbered())
    names = [f"agent-{number}" for number in range(agents)]
    open_requests: list[AgentRequest] = []
    versions: dict[str, int] = {}
    for name in names:
        history.registered(name, f"{name}:one", "review", "build")
    for step in range(steps):
        _one_step(history, chance, step, names, open_requests, versions)
    return history


def _one_step(
    history: History,
    chance: random.Random,
    step: int,
    names: list[str],
    open_requests: list[AgentRequest],
    versions: dict[str, int],
) -> None:
    name = chance.choice(names)
    match chance.randrange(16):
        case 0:
            history.registered(
                name, f"{name}:{chance.choice(['one', 'two', 'three'])}", chance.choice(["review", "deploy"])
            )
        case 1:
            history.status_changed(name, f"{name}:one", chance.choice(["busy", "idle", "offline", "active"]))
        case 2:
            history.went_stale(name, f"{name}:two")
        case 3:
            history.deregistered(name, f"{name}:{chance.choice(['two', 'three'])}")
        case 4 | 5 | 6:
            request = history.request(f"request-{step}", name, f"work-{step % 50}")
            history.submitted(request)
            open_requests.append(request)
        case 7 | 8 | 9 if open_requests:
            request = open_requests.pop(chance.randrange(len(open_requests)))
            ending = chance.choice([history.completed, history.timed_out, history.attempt_timed_out])
            ending(request)
            if chance.random() < 0.2:
                history.late(request)
        case 10 | 11 | 12:
            workflow_id = f"workflow-{chance.randrange(20)}"
            if workflow_id not in versions:
                versions[workflow_id] = 1
                history.workflow_created(workflow_id)
            else:
                _work_on(history, chance, step, workflow_id, versions)
        case 13:
            history.rejected(history.request(f"rejected-{step}", name))
        case 14:
            history.broadcast("task.progress", {"step": step}, f"work-{step % 50}")
            history.heartbeat(name, f"{name}:one")
        case _:
            _trouble(history, chance, name)


def _work_on(history: History, chance: random.Random, step: int, workflow_id: str, versions: dict[str, int]) -> None:
    """Something happens to a workflow; one in fifty is over and forgotten."""
    version = versions[workflow_id]
    happening = chance.randrange(50)
    if 40 <= happening < 48:
        history.workflow_checkpoint(workflow_id, version, f"checkpoint-{step}", f'{{"at":{step}}}')
        return
    version = versions[workflow_id] = version + 1
    if happening < 40:
        history.workflow_updated(workflow_id, version, f'{{"step":{step},"k{step % 5}":{{"n{step % 3}":[{step}]}}}}')
    elif happening == 48:
        history.workflow_restored(workflow_id, version, "checkpoint", f'{{"restored":{step}}}')
    else:
        history.workflow_completed(workflow_id, version)
        history.workflow_removed(workflow_id, version)
        del versions[workflow_id]


def _trouble(history: History, chance: random.Random, name: str) -> None:
    match chance.randrange(3):
        case 0:
            history.alien(
                AgentDeregistered(
                    command_id=history.next_command(),
                    at_ms=history.at_ms,
                    agent_id=name,
                    instance_id=f"{name}:one",
                    reason="a zombie says so",
                )
            )
        case 1:
            chained = [record for record in history.records[-40:] if record.topic.endswith(".events")]
            if chained:
                history.duplicate(chance.choice(chained))
        case _:
            history.poison("agents.events", partition_of(name))


def batches(records: Iterable[Record], chance: random.Random, size_max: int) -> Iterable[list[Record]]:
    """The records cut into batches of random sizes."""
    rest = list(records)
    while rest:
        size = chance.randint(1, size_max)
        yield rest[:size]
        rest = rest[size:]
