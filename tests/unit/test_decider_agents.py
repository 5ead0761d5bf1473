"""Given, when, then: every rule and every refusal of the decisions about agents and their requests."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from diurna_schemas.agents import (
    AgentRegistered,
    AgentStatusChanged,
    AgentWentStale,
    Capability,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
)
from diurna_streams.deciders.agents import RULES
from diurna_streams.deciders.agents.state import STALE_KEPT_MAX
from support.given import (
    START_MS,
    Partition,
    change_status,
    complete,
    deregister,
    mark_stale,
    names,
    only,
    refusal,
    register,
    submit,
)

rules_module = importlib.import_module("diurna_streams.deciders.agents.decide")
"""The module, which its package hides behind the function of the same name."""


@pytest.fixture
def here() -> Partition:
    return Partition(RULES)


# --- registration -------------------------------------------------------------------------------------------


def test_a_registration_is_a_fact_with_everything_the_instance_said(here: Partition) -> None:
    command = register(
        concurrency=4, base_url="http://worker", capabilities=[Capability(name="work")], metadata='{"a":1}'
    )
    event = only(AgentRegistered, here.when(command))
    assert (event.agent_id, event.instance_id, event.concurrency, event.epoch) == ("worker", "one", 4, 0)
    assert (event.base_url, event.capabilities, event.metadata) == ("http://worker", command.capabilities, '{"a":1}')
    assert (event.command_id, event.at_ms) == (command.command_id, START_MS)


def test_a_new_registration_has_a_new_epoch_and_keeps_what_is_in_flight(here: Partition) -> None:
    here.when(register(), submit("r"))
    event = only(AgentRegistered, here.when(register(concurrency=2)))
    assert event.epoch == 2
    assert here.state.agents["worker"].instances["one"].in_flight == {"r"}


def test_an_agent_has_a_limited_number_of_instances(here: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "INSTANCES_MAX", 2)
    here.when(register(instance_id="one"), register(instance_id="two"))
    code, reason = refusal(here.when(register(instance_id="three")))
    assert code == "too_many_instances"
    assert "worker has 2 instances" in reason
    assert names(here.when(register(instance_id="two"))) == ["AgentRegistered"], "one that is known may come again"


def test_a_status_change_says_what_it_was_before(here: Partition) -> None:
    here.when(register())
    event = only(AgentStatusChanged, here.when(change_status("busy")))
    assert (event.instance_id, event.previous, event.status) == ("one", "active", "busy")


def test_a_status_change_without_an_instance_is_for_all(here: Partition) -> None:
    here.when(register(instance_id="two"), register(instance_id="one"))
    events = here.when(change_status("idle", instance_id=None))
    assert [(event.instance_id, event.status) for event in events if isinstance(event, AgentStatusChanged)] == [
        ("one", "idle"),
        ("two", "idle"),
    ]


@pytest.mark.parametrize("command", [change_status("busy"), deregister(), deregister(instance_id=None)])
def test_who_never_registered_is_not_found(here: Partition, command: Any) -> None:
    code, reason = refusal(here.when(command))
    assert code == "not_found"
    assert "agent worker has no instance" in reason


def test_who_leaves_is_gone_and_its_work_goes_to_others(here: Partition) -> None:
    here.when(register(instance_id="one"), submit("r"), register(instance_id="two"))
    events = here.when(deregister(instance_id="one"))
    assert names(events) == ["AgentDeregistered", "RequestDispatched"]
    dispatched = only(RequestDispatched, events)
    assert (dispatched.instance_id, dispatched.attempt) == ("two", 2)
    assert set(here.state.agents["worker"].instances) == {"two"}


def test_when_all_leave_the_agent_is_offline_at_once(here: Partition) -> None:
    here.when(register(instance_id="one"), register(instance_id="two"))
    assert names(here.when(deregister(instance_id=None))) == ["AgentDeregistered", "AgentDeregistered"]
    assert only(RequestRejected, here.when(submit("r"))).code == "agent_offline"


# --- staleness ----------------------------------------------------------------------------------------------


def test_instances_that_crashed_long_ago_are_forgotten_when_another_registers(here: Partition) -> None:
    for number in range(STALE_KEPT_MAX + 2):
        epoch = 2 * number
        here.when(register(instance_id=f"dead-{number}"), mark_stale(instance_id=f"dead-{number}", epoch=epoch))
    assert names(here.when(register(instance_id="alive"))) == ["AgentDeregistered", "AgentRegistered"]
    assert "dead-1" not in here.state.agents["worker"].instances, "dead-0 went when the last of the dead registered"
    assert len(here.state.agents["worker"].instances) == STALE_KEPT_MAX + 1


def test_who_goes_stale_loses_its_work_to_others(here: Partition) -> None:
    here.when(register(instance_id="one"), submit("r"), register(instance_id="two"))
    events = here.when(mark_stale(instance_id="one", epoch=0))
    assert names(events) == ["AgentWentStale", "RequestDispatched"]
    assert only(AgentWentStale, events).epoch == 0
    assert only(RequestDispatched, events).instance_id == "two"


def test_a_stale_instance_gets_no_work_until_it_speaks_again(here: Partition) -> None:
    here.when(register(), mark_stale(epoch=0))
    assert only(RequestRejected, here.when(submit("r"))).code == "agent_offline"
    here.when(change_status("active"))
    assert names(here.when(submit("s"))) == ["RequestSubmitted", "RequestDispatched"]


def test_a_monitors_late_word_about_an_earlier_registration_means_nothing(here: Partition) -> None:
    here.when(register(), register())
    assert here.when(mark_stale(epoch=0)) == []
    assert names(here.when(mark_stale(epoch=1))) == ["AgentWentStale"]
    assert here.when(mark_stale(epoch=1)) == [], "and its word said twice means it once"
    assert here.when(mark_stale(instance_id="nobody", epoch=1)) == []
    assert here.when(mark_stale(agent_id="nobody", epoch=1)) == []


# --- submission ---------------------------------------------------------------------------------------------


def test_a_request_is_taken_in_and_given_to_an_instance_at_once(here: Partition) -> None:
    here.when(register())
    command = submit("r", timeout_ms=20_000)
    submitted, dispatched = here.when(command)
    assert isinstance(submitted, RequestSubmitted)
    assert isinstance(dispatched, RequestDispatched)
    assert submitted.request == dispatched.request == command.request
    assert submitted.deadline_ms == dispatched.deadline_ms == START_MS + 20_000
    assert (dispatched.instance_id, dispatched.attempt) == ("one", 1)


def test_an_attempt_may_have_a_deadline_of_its_own(here: Partition) -> None:
    here.when(register())
    events = here.when(submit("r", timeout_ms=20_000, attempt_timeout_ms=5_000))
    assert only(RequestDispatched, events).deadline_ms == START_MS + 5_000
    assert only(RequestSubmitted, events).deadline_ms == START_MS + 20_000


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ([], "it never registered"),
        ([register(concurrency=0)], "no live instance takes requests"),
        ([register(), change_status("offline")], "no live instance takes requests"),
        ([register(), deregister()], "no live instance takes requests"),
    ],
)
def test_a_request_to_nobody_is_rejected_at_once(here: Partition, before: list[Any], why: str) -> None:
    here.when(*before)
    event = only(RequestRejected, here.when(submit("r")))
    assert (event.code, event.error) == ("agent_offline", f"agent offline: worker: {why}")
    assert "r" not in here.state.requests


def test_a_request_for_somebody_else_is_refused(here: Partition) -> None:
    here.when(register())
    code, reason = refusal(here.when(submit("r", target_agent="other")))
    assert code == "wrong_target"
    assert "for other, not worker" in reason


def test_a_request_id_is_used_once_also_after_its_end(here: Partition) -> None:
    here.when(register(), submit("r"))
    assert refusal(here.when(submit("r")))[0] == "request_exists"
    here.when(complete("r"))
    assert refusal(here.when(submit("r")))[0] == "request_exists"


def test_a_rejected_request_keeps_its_one_end(here: Partition) -> None:
    here.when(submit("r"), register())
    assert refusal(here.when(submit("r")))[0] == "request_exists"


def test_a_full_queue_rejects(here: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "QUEUE_DEPTH_MAX", 2)
    here.when(register(), submit("a"), submit("b"), submit("c"))
    event = only(RequestRejected, here.when(submit("d")))
    assert (event.code, event.error) == ("queue_full", "2 requests are waiting for worker")
    here.when(complete("a"))
    assert names(here.when(submit("e"))) == ["RequestSubmitted"], "there is room again"


# --- dispatch -----------------------------------------------------------------------------------------------


def test_no_instance_gets_more_than_it_said_it_takes(here: Partition) -> None:
    here.when(register(concurrency=2))
    assert [names(here.when(submit(name))) for name in "abc"] == [
        ["RequestSubmitted", "RequestDispatched"],
        ["RequestSubmitted", "RequestDispatched"],
        ["RequestSubmitted"],
    ]


def test_a_finished_request_gives_its_place_to_the_next(here: Partition) -> None:
    here.when(register(), submit("a"), submit("b"))
    events = here.when(complete("a"))
    assert names(events) == ["RequestCompleted", "RequestDispatched"]
    assert only(RequestDispatched, events).request.request_id == "b"


def test_work_goes_to_the_instance_with_the_most_room_and_among_equals_to_the_first_by_name(here: Partition) -> None:
    here.when(register(instance_id="b", concurrency=2), register(instance_id="a", concurrency=1))
    given_to = [only(RequestDispatched, here.when(submit(name))).instance_id for name in ("r", "s", "t")]
    assert given_to == ["b", "a", "b"]


def test_a_newcomer_gets_what_waits(here: Partition) -> None:
    here.when(register(instance_id="one"), submit("a"), submit("b"), submit("c"))
    events = here.when(register(instance_id="two", concurrency=5))
    assert [event.request.request_id for event in events if isinstance(event, RequestDispatched)] == ["b", "c"]


def test_who_comes_back_to_work_gets_what_waits(here: Partition) -> None:
    here.when(register(), submit("a"), submit("b"), change_status("offline"))
    assert names(here.when(complete("a"))) == ["RequestCompleted"]
    assert names(here.when(change_status("active"))) == ["AgentStatusChanged", "RequestDispatched"]


def test_a_smaller_concurrency_takes_nothing_away_and_gives_nothing_more(here: Partition) -> None:
    here.when(register(concurrency=3), submit("a"), submit("b"), submit("c"), submit("d"), register(concurrency=1))
    assert names(here.when(complete("a"))) == ["RequestCompleted"]
    assert names(here.when(complete("b"))) == ["RequestCompleted"]
    assert names(here.when(complete("c"))) == ["RequestCompleted", "RequestDispatched"]


def order_of_dispatch(here: Partition, count: int) -> list[str]:
    order: list[str] = []
    for _ in range(count):
        in_flight = next(iter(here.state.agents["worker"].instances["one"].in_flight))
        attempt = here.state.requests[in_flight].attempt
        dispatched = [
            event for event in here.when(complete(in_flight, attempt=attempt)) if isinstance(event, RequestDispatched)
        ]
        order += [event.request.request_id for event in dispatched]
    return order


def test_urgent_goes_before_high_before_normal_before_low(here: Partition) -> None:
    here.when(register(), submit("running"))
    for priority in ("low", "normal", "urgent", "high"):
        here.when(submit(priority, priority=priority), after_ms=10)
    assert order_of_dispatch(here, 4) == ["urgent", "high", "normal", "low"]


def test_equals_go_in_the_order_they_came(here: Partition) -> None:
    here.when(register(), submit("running"))
    for number in (3, 1, 2):
        here.when(submit(f"r{number}"), after_ms=1)
    assert order_of_dispatch(here, 3) == ["r3", "r1", "r2"]


def test_low_never_starves(here: Partition) -> None:
    here.when(register(), submit("running", timeout_ms=86_400_000))
    here.when(submit("low", priority="low", timeout_ms=86_400_000), after_ms=1)
    served: list[str] = []
    for number in range(20):
        here.when(submit(f"urgent-{number}", priority="urgent", timeout_ms=86_400_000), after_ms=10_000)
        served += order_of_dispatch(here, 1)
    assert "low" in served
    assert served.index("low") <= 10, "ninety seconds make up for every priority"
