"""How an event changes what is remembered of agents and requests."""

from __future__ import annotations

from typing import assert_never

from diurna_schemas.agents import (
    AgentCommandRefused,
    AgentCommandRepeated,
    AgentDeregistered,
    AgentRegistered,
    AgentRequest,
    AgentsEvent,
    AgentStatus,
    AgentStatusChanged,
    AgentWentStale,
    AttemptTimedOut,
    RequestCancelled,
    RequestCompleted,
    RequestDeadLettered,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
    RequestTimedOut,
    ResponseLate,
)
from diurna_streams.deciders.agents.state import Agent, AgentsState, Due, Instance, Over, Pending


def evolve(state: AgentsState, event: AgentsEvent, command_offset: int) -> AgentsState:
    """The state after an event that the command at `command_offset` led to."""
    state = state._replace(now_ms=event.at_ms, seen=state.seen.put(event.command_id, command_offset, event.at_ms))
    match event:
        case RequestSubmitted():
            return _queued(state, Pending(event.request, event.at_ms, event.deadline_ms))
        case RequestDispatched():
            return _dispatched(state, event)
        case RequestCompleted() | RequestTimedOut() | RequestCancelled() | RequestDeadLettered():
            return _over(state, event.request_id, event.at_ms)
        case RequestRejected():
            return _remembered(state, event.request, event.at_ms)
        case AttemptTimedOut():
            return _requeued(state, event.agent_id, event.instance_id, frozenset({event.request_id}))
        case AgentRegistered():
            return _registered(state, event)
        case AgentStatusChanged():
            return _with_status(state, event.agent_id, event.instance_id, event.status)
        case AgentWentStale():
            in_flight = state.agents[event.agent_id].instances[event.instance_id].in_flight
            state = _requeued(state, event.agent_id, event.instance_id, in_flight)
            return _with_status(state, event.agent_id, event.instance_id, "stale")
        case AgentDeregistered():
            in_flight = state.agents[event.agent_id].instances[event.instance_id].in_flight
            state = _requeued(state, event.agent_id, event.instance_id, in_flight)
            agent = state.agents[event.agent_id]
            return _with_agent(
                state, event.agent_id, agent._replace(instances=agent.instances.delete(event.instance_id))
            )
        case ResponseLate() | AgentCommandRefused() | AgentCommandRepeated():
            return state
        case _:
            assert_never(event)


def _with_agent(state: AgentsState, agent_id: str, agent: Agent) -> AgentsState:
    ready = state.ready
    if agent.has_work != (agent_id in ready):
        ready = ready ^ {agent_id}
    return state._replace(agents=state.agents.set(agent_id, agent), ready=ready)


def _with_instance(agent: Agent, instance_id: str, instance: Instance) -> Agent:
    return agent._replace(instances=agent.instances.set(instance_id, instance))


def _with_status(state: AgentsState, agent_id: str, instance_id: str, status: AgentStatus) -> AgentsState:
    agent = state.agents[agent_id]
    instance = agent.instances[instance_id]._replace(status=status)
    return _with_agent(state, agent_id, _with_instance(agent, instance_id, instance))


def _registered(state: AgentsState, event: AgentRegistered) -> AgentsState:
    agent = state.agents.get(event.agent_id, Agent())
    known = agent.instances.get(event.instance_id)
    in_flight = frozenset[str]() if known is None else known.in_flight
    instance = Instance(event.epoch, event.concurrency, event.status, in_flight)
    return _with_agent(state, event.agent_id, _with_instance(agent, event.instance_id, instance))


def _queued(state: AgentsState, pending: Pending) -> AgentsState:
    """With a request that is new."""
    request_id, agent_id = pending.request.request_id, pending.request.target_agent
    agent = state.agents[agent_id]
    state = state._replace(
        requests=state.requests.set(request_id, pending),
        due=state.due.push(Due(pending.deadline_ms, request_id, 0)),
    )
    agent = agent._replace(queue=agent.queue.push(pending.place), queue_depth=agent.queue_depth + 1)
    return _with_agent(state, agent_id, agent)


def _dispatched(state: AgentsState, event: RequestDispatched) -> AgentsState:
    request_id = event.request.request_id
    pending = state.requests[request_id]._replace(
        attempt=event.attempt,
        instance_id=event.instance_id,
        attempt_deadline_ms=event.deadline_ms,
    )
    agent = state.agents[event.agent_id]
    instance = agent.instances[event.instance_id]
    agent = _with_instance(agent, event.instance_id, instance._replace(in_flight=instance.in_flight | {request_id}))
    due = state.due
    if event.deadline_ms < pending.deadline_ms:
        due = due.push(Due(event.deadline_ms, request_id, event.attempt))
    state = state._replace(requests=state.requests.set(request_id, pending), due=due)
    return _pruned(
        _with_agent(state, event.agent_id, agent._replace(queue_depth=agent.queue_depth - 1)), event.agent_id
    )


def _requeued(state: AgentsState, agent_id: str, instance_id: str, request_ids: frozenset[str]) -> AgentsState:
    """With these requests taken from the instance and back in the queue, where they stood before."""
    agent = state.agents[agent_id]
    requests, queue = state.requests, agent.queue
    for request_id in sorted(request_ids):
        pending = requests[request_id]._replace(instance_id=None, failed_instance_id=instance_id)
        requests, queue = requests.set(request_id, pending), queue.push(pending.place)
    instance = agent.instances[instance_id]
    agent = _with_instance(agent, instance_id, instance._replace(in_flight=instance.in_flight - request_ids))
    agent = agent._replace(queue=queue, queue_depth=agent.queue_depth + len(request_ids))
    return _pruned(_with_agent(state._replace(requests=requests), agent_id, agent), agent_id)


def _over(state: AgentsState, request_id: str, at_ms: int) -> AgentsState:
    """Without a request, which is remembered as over."""
    pending = state.requests[request_id]
    agent_id = pending.request.target_agent
    agent = state.agents[agent_id]
    if pending.instance_id is None:
        agent = agent._replace(queue_depth=agent.queue_depth - 1)
    elif (instance := agent.instances.get(pending.instance_id)) is not None:
        freed = instance._replace(in_flight=instance.in_flight - {request_id})
        agent = _with_instance(agent, pending.instance_id, freed)
    state = _with_agent(state._replace(requests=state.requests.delete(request_id)), agent_id, agent)
    return _pruned(_remembered(state, pending.request, at_ms), agent_id)


def _remembered(state: AgentsState, request: AgentRequest, at_ms: int) -> AgentsState:
    over = Over(request.source_agent, request.correlation_id)
    return state._replace(over=state.over.put(request.request_id, over, at_ms))


def _pruned(state: AgentsState, agent_id: str) -> AgentsState:
    """With the first deadline and the first in the agent's queue alive, as the rules take for granted."""
    agent = state.agents[agent_id]
    queue = agent.queue.pruned(state.is_waiting, agent.queue_depth)
    due = state.due.pruned(state.is_due_live, 2 * len(state.requests))
    if queue is not agent.queue:
        state = _with_agent(state, agent_id, agent._replace(queue=queue))
    return state if due is state.due else state._replace(due=due)
