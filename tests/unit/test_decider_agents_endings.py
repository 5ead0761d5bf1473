"""Given, when, then: how requests end, what time does to them, and what a command sent twice is."""

from __future__ import annotations

from typing import Any

import pytest

from diurna_schemas.agents import (
    AgentCommandRepeated,
    AttemptTimedOut,
    RequestCompleted,
    RequestDeadLettered,
    RequestDispatched,
    RequestSubmitted,
    RequestTimedOut,
    ResponseLate,
)
from diurna_streams.deciders.agents import RULES
from support.given import (
    START_MS,
    Partition,
    cancel,
    change_status,
    complete,
    deregister,
    mark_stale,
    names,
    only,
    refusal,
    register,
    submit,
    tick,
)


@pytest.fixture
def here() -> Partition:
    return Partition(RULES)


# --- completion ---------------------------------------------------------------------------------------------


def test_the_first_answer_ends_the_request_and_says_everything(here: Partition) -> None:
    here.when(register(), submit("r"))
    command = complete("r", status="partial", result="[1]", error="half", metadata='{"m":1}', processing_time_ms=7)
    event = only(RequestCompleted, here.when(command))
    for name in ("status", "result", "error", "metadata", "processing_time_ms", "attempt", "instance_id", "request_id"):
        assert getattr(event, name) == getattr(command, name)
    assert (event.source_agent, event.correlation_id) == ("asker", "work-r")
    assert not here.state.requests
    assert here.state.agents["worker"].instances["one"].in_flight == frozenset()


def test_a_later_answer_is_recorded_and_changes_nothing(here: Partition) -> None:
    here.when(register(), submit("r"), complete("r"))
    before = RULES.dump(here.state)
    event = only(ResponseLate, here.when(complete("r", result='"again"')))
    assert (event.request_id, event.result, event.source_agent, event.correlation_id) == (
        "r",
        '"again"',
        "asker",
        "work-r",
    )
    after = RULES.dump(here.state)
    assert {key: after[key] for key in ("agents", "requests", "over")} == {
        key: before[key] for key in ("agents", "requests", "over")
    }


@pytest.mark.parametrize("ending", [cancel("r"), tick()], ids=["cancelled", "timed out"])
def test_an_answer_after_another_end_is_late(here: Partition, ending: Any) -> None:
    here.when(register(), submit("r", timeout_ms=1_000))
    here.when(ending, after_ms=1_000)
    assert names(here.when(complete("r"))) == ["ResponseLate"]


def test_an_answer_from_who_was_not_asked_is_refused(here: Partition) -> None:
    here.when(register(instance_id="one"), register(instance_id="two"), submit("r"))
    code, reason = refusal(here.when(complete("r", instance_id="two")))
    assert code == "not_dispatched"
    assert "attempt 1 of r was not given to two" in reason
    assert refusal(here.when(complete("r", attempt=2)))[0] == "not_dispatched"
    assert refusal(here.when(register("other"), complete("r", agent_id="other")))[0] == "not_dispatched"
    assert names(here.when(complete("r"))) == ["RequestCompleted"], "and nothing was spoilt"


def test_an_answer_to_nothing_is_refused(here: Partition) -> None:
    here.when(register())
    assert refusal(here.when(complete("never"))) == ("not_found", "no request with id 'never'")


def test_the_first_of_two_attempts_may_still_win(here: Partition) -> None:
    here.when(register(instance_id="one"), submit("r", attempt_timeout_ms=1_000))
    here.when(register(instance_id="two"))
    events = here.when(tick(), after_ms=1_000)
    assert names(events) == ["AttemptTimedOut", "RequestDispatched"]
    assert only(RequestDispatched, events).instance_id == "two", "not the one that did not answer"
    assert names(here.when(complete("r", attempt=1, instance_id="one"))) == ["RequestCompleted"]
    assert names(here.when(complete("r", attempt=2, instance_id="two"))) == ["ResponseLate"]


def test_who_failed_is_asked_again_where_nobody_else_is_free(here: Partition) -> None:
    here.when(register(), submit("r", attempt_timeout_ms=1_000))
    assert only(RequestDispatched, here.when(tick(), after_ms=1_000)).instance_id == "one"


def test_an_answer_may_come_while_its_request_waits_for_another_attempt(here: Partition) -> None:
    here.when(register(), submit("r", attempt_timeout_ms=1_000))
    here.when(change_status("offline"))
    assert names(here.when(tick(), after_ms=1_000)) == ["AttemptTimedOut"]
    assert names(here.when(complete("r"))) == ["RequestCompleted"]
    assert here.state.agents["worker"].queue_depth == 0


# --- time ---------------------------------------------------------------------------------------------------


def test_a_request_that_nobody_answers_times_out(here: Partition) -> None:
    here.when(register(), submit("r", timeout_ms=1_500))
    assert here.when(tick(), after_ms=1_499) == []
    event = only(RequestTimedOut, here.when(tick(), after_ms=1))
    assert (event.attempts, event.error) == (1, "no answer within 1.5 s, after 1 attempts")
    assert here.state.agents["worker"].instances["one"].in_flight == frozenset()


def test_a_request_that_waits_times_out_too(here: Partition) -> None:
    here.when(register(), submit("a", timeout_ms=60_000), submit("b", timeout_ms=1_000))
    event = only(RequestTimedOut, here.when(tick(), after_ms=1_000))
    assert (event.request_id, event.attempts) == ("b", 0)
    assert here.state.agents["worker"].queue_depth == 0


def test_an_attempt_that_times_out_is_tried_again_until_the_attempts_are_spent(here: Partition) -> None:
    here.when(register(), submit("r", timeout_ms=60_000, attempt_timeout_ms=1_000, attempts_max=2))
    first = here.when(tick(), after_ms=1_000)
    assert names(first) == ["AttemptTimedOut", "RequestDispatched"]
    assert (only(AttemptTimedOut, first).attempt, only(RequestDispatched, first).attempt) == (1, 2)
    second = here.when(tick(), after_ms=1_000)
    assert names(second) == ["AttemptTimedOut", "RequestDeadLettered"]
    event = only(RequestDeadLettered, second)
    assert (event.attempts, event.error) == (2, "2 of 2 attempts are spent: attempt 2 timed out")
    assert not here.state.requests


@pytest.mark.parametrize("leaving", [deregister(), mark_stale(epoch=0)], ids=["left", "went stale"])
def test_a_spent_request_whose_instance_goes_is_dead_lettered(here: Partition, leaving: Any) -> None:
    here.when(register(), submit("r", attempts_max=1))
    assert names(here.when(leaving))[1:] == ["RequestDeadLettered"]


def test_time_passes_with_every_command_and_before_it(here: Partition) -> None:
    here.when(register(), submit("r", timeout_ms=1_000))
    events = here.when(complete("r"), after_ms=1_000)
    assert names(events) == ["RequestTimedOut", "ResponseLate"]


def test_deadlines_are_settled_in_the_order_of_their_times(here: Partition) -> None:
    here.when(register(concurrency=9))
    for name, timeout_ms in (("c", 3_000), ("a", 1_000), ("b", 2_000)):
        here.when(submit(name, timeout_ms=timeout_ms))
    events = here.when(tick(), after_ms=60_000)
    assert [event.request_id for event in events if isinstance(event, RequestTimedOut)] == ["a", "b", "c"]


def test_a_clock_that_steps_back_does_not_turn_time_back(here: Partition) -> None:
    here.when(register(), submit("r", timeout_ms=1_000))
    here.when(submit("s", timeout_ms=60_000), after_ms=500)
    events = here.when(submit("t", timeout_ms=60_000), after_ms=-10_000)
    assert {event.at_ms for event in events} == {START_MS + 500}
    assert only(RequestSubmitted, events).deadline_ms == START_MS + 60_500


def test_the_next_due_time_is_the_earliest_deadline(here: Partition) -> None:
    assert RULES.next_due_ms(here.state) is None
    here.when(register(), submit("a", timeout_ms=9_000), submit("b", timeout_ms=5_000))
    assert RULES.next_due_ms(here.state) == START_MS + 5_000
    here.when(cancel("b"))
    assert RULES.next_due_ms(here.state) == START_MS + 9_000
    here.when(complete("a"))
    assert RULES.next_due_ms(here.state) is None


def test_a_tick_with_nothing_due_decides_nothing(here: Partition) -> None:
    here.when(register(), submit("r"))
    before = here.state
    assert here.when(tick(), after_ms=10) == []
    assert here.state is before


# --- cancellation -------------------------------------------------------------------------------------------


def test_a_cancelled_request_is_over_and_its_place_is_free(here: Partition) -> None:
    here.when(register(), submit("a"), submit("b"))
    events = here.when(cancel("a"))
    assert names(events) == ["RequestCancelled", "RequestDispatched"]
    assert events[0].model_dump()["cancelled_by"] == "asker"
    assert names(here.when(submit("c"), cancel("c"))) == ["RequestCancelled"]


def test_what_is_over_cannot_be_cancelled_and_what_never_was_is_not_found(here: Partition) -> None:
    here.when(register(), submit("r"), complete("r"))
    assert refusal(here.when(cancel("r")))[0] == "request_over"
    assert refusal(here.when(cancel("s")))[0] == "not_found"
    here.when(submit("t"))
    assert refusal(here.when(cancel("t", agent_id="other")))[0] == "not_found"


# --- repetition ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [register(), submit("again"), complete("r"), cancel("r"), change_status("busy"), deregister()],
    ids=lambda command: type(command).__name__,
)
def test_a_command_sent_again_is_answered_and_changes_nothing(here: Partition, command: Any) -> None:
    here.when(register(), submit("r"))
    first_offset = here.offset
    here.when(command)
    before = RULES.dump(here.state)
    event = only(AgentCommandRepeated, here.when(command, after_ms=100))
    assert (event.first_offset, event.command_type, event.about) == (first_offset, command.type_name, command.subject)
    after = RULES.dump(here.state)
    assert {key: after[key] for key in ("agents", "requests", "over")} == {
        key: before[key] for key in ("agents", "requests", "over")
    }


def test_a_refused_command_sent_again_is_the_same_command(here: Partition) -> None:
    command = cancel("r")
    assert names(here.when(command)) == ["AgentCommandRefused"]
    assert names(here.when(command)) == ["AgentCommandRepeated"]


def test_a_repetition_is_known_after_a_restart_and_for_as_long_as_clients_resend(here: Partition) -> None:
    command = register()
    here.when(command)
    for _ in range(4):
        here.when(change_status("busy"), after_ms=60_000)
        here.restart()
    assert names(here.when(command)) == ["AgentCommandRepeated"]
