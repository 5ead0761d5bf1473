"""Events to rows, on tables that are dictionaries."""

from __future__ import annotations

import random

import pytest

from diurna_projections.documents import _documents, event_document, fields_of  # pyright: ignore[reportPrivateUsage]
from diurna_projections.errors import OutOfStep
from diurna_projections.folds.dead_letters import letter_of
from diurna_projections.memory import MemoryTables, checksum
from diurna_projections.rows import EVENTS, TABLES, Request
from diurna_projections.tables import Rows, Tables
from diurna_projections.text import indexed, json_text, plain
from diurna_schemas.agents import RequestSubmitted
from diurna_schemas.errors import Unreadable
from diurna_schemas.records import DeadLetter
from support.projecting import History, batches, busy_team


def folded(history: History) -> MemoryTables:
    tables = MemoryTables(history.codec)
    tables.apply(history.records)
    return tables


def the_request(tables: MemoryTables, request_id: str = "request-1", agent_id: str = "reviewer") -> Request:
    row = tables.tables.requests.get(request_id, agent_id)
    assert row is not None
    return row


def test_an_agent_is_the_best_of_its_instances_and_looks_like_the_newest() -> None:
    history = History()
    history.registered("reviewer", "one", "review")
    history.registered("reviewer", "two", "test", status="idle")
    tables = folded(history)
    agent = tables.tables.agents.get("reviewer")
    assert agent is not None
    assert (agent.status, agent.instances, agent.base_url) == ("active", 2, "http://127.0.0.1/two")
    assert [row.name for row in tables.tables.capabilities.group("reviewer")] == ["review", "test"]
    tables.apply([history.went_stale("reviewer", "one"), history.status_changed("reviewer", "two", "offline")])
    assert tables.tables.agents.get("reviewer")[4] == "stale"  # type: ignore[index]


def test_an_agent_whose_last_instance_left_is_gone_with_what_it_could_do() -> None:
    history = History()
    history.registered("reviewer", "one", "review")
    history.registered("reviewer", "two", "test")
    history.deregistered("reviewer", "two")
    tables = folded(history)
    assert [row.name for row in tables.tables.capabilities.group("reviewer")] == ["review"]
    tables.apply([history.deregistered("reviewer", "one")])
    assert len(tables.tables.agents) == len(tables.tables.capabilities) == len(tables.tables.agent_instances) == 0


def test_a_request_goes_from_queued_over_dispatched_to_its_one_answer() -> None:
    history = History()
    request = history.request("request-1", "reviewer")
    submitted, dispatched = history.submitted(request)
    tables = MemoryTables(history.codec)
    tables.apply([submitted])
    assert the_request(tables).status == "queued"
    tables.apply([dispatched])
    assert (the_request(tables).status, the_request(tables).instance_id) == ("dispatched", "one")
    tables.apply([history.attempt_timed_out(request)])
    assert (the_request(tables).status, the_request(tables).instance_id) == ("queued", None)
    tables.apply([history.completed(request)])
    assert (the_request(tables).status, the_request(tables).response_status) == ("completed", "success")
    tables.apply([history.timed_out(request), history.late(request)])
    assert (the_request(tables).status, the_request(tables).late_responses) == ("completed", 1)
    assert the_request(tables).record_offset == history.records[-1].offset


def test_a_request_that_was_answered_is_not_overwritten_by_a_rejected_repetition() -> None:
    history = History()
    request = history.request("request-1", "reviewer")
    history.submitted(request)
    history.completed(request)
    history.rejected(request)
    assert the_request(folded(history)).status == "completed"


def test_the_same_request_id_at_two_agents_is_two_rows_so_that_partitions_never_share_one() -> None:
    history = History()
    history.submitted(history.request("request-1", "reviewer"))
    history.submitted(history.request("request-1", "builder"))
    assert len(folded(history).tables.requests) == 2


def test_a_workflow_is_the_merge_of_its_updates() -> None:
    history = History()
    history.workflow_created("workflow-1", '{"a":1,"b":{"c":2}}')
    history.workflow_updated("workflow-1", 2, '{"b":{"d":3},"a":null}')
    history.workflow_step("workflow-1", 3, "testing")
    history.workflow_completed("workflow-1", 4)
    row = folded(history).tables.workflows.get("workflow-1")
    assert row is not None
    assert row.state == {"b": {"c": 2, "d": 3}, "last": {"word": True}}
    assert (row.current_step, row.status, row.version) == ("testing", "completed", 4)


def test_a_checkpoint_names_the_version_it_keeps_and_a_restored_workflow_has_the_event_s_state() -> None:
    history = History()
    history.workflow_created("workflow-1", '{"a":{"b":1}}')
    history.workflow_checkpoint("workflow-1", 1, "first", '{"progress":50}')
    history.workflow_updated("workflow-1", 2, '{"a":{"b":2}}')
    history.workflow_restored("workflow-1", 3, "first", '{"a":{"b":1},"progress":50}')
    tables = folded(history).tables
    (checkpoint,) = tables.workflow_checkpoints
    assert (checkpoint.data, checkpoint.version, checkpoint.step) == ('{"progress":50}', 1, "testing")
    row = tables.workflows.get("workflow-1")
    assert row is not None
    assert (row.state, row.current_step, row.version) == ({"a": {"b": 1}, "progress": 50}, "testing", 3)


def test_a_paused_workflow_says_so_until_it_is_resumed() -> None:
    history = History()
    history.workflow_created("workflow-1")
    history.workflow_paused("workflow-1", 2)
    assert [row.status for row in folded(history).tables.workflows] == ["paused"]
    history.workflow_resumed("workflow-1", 3)
    assert [(row.status, row.version) for row in folded(history).tables.workflows] == [("running", 3)]


def test_a_removed_workflow_is_gone_with_its_checkpoints_and_no_other_is() -> None:
    history = History()
    for workflow_id in ("workflow-1", "workflow-2"):
        history.workflow_created(workflow_id)
        history.workflow_checkpoint(workflow_id, 1, "first")
        history.approval_requested(workflow_id, "approval")
        history.workflow_completed(workflow_id, 2)
    history.workflow_removed("workflow-1", 2)
    tables = folded(history).tables
    assert [row.workflow_id for row in tables.workflows] == ["workflow-2"]
    assert [row.workflow_id for row in tables.workflow_checkpoints] == ["workflow-2"]
    assert len(tables.approvals) == 2, "who decided what is asked long afterwards"
    history.workflow_created("workflow-1", '{"second":"life"}')
    assert [row.version for row in folded(history).tables.workflows] == [1, 2]


def test_an_update_that_is_no_json_object_is_a_dead_letter_and_the_workflow_goes_on() -> None:
    history = History()
    history.workflow_created("workflow-1")
    history.workflow_updated("workflow-1", 2, "[1]")
    history.workflow_updated("workflow-1", 3, '{"a":1}')
    tables = folded(history)
    assert [row.error for row in tables.tables.dead_letters] == ["updates is no JSON object: '[1]'"]
    row = tables.tables.workflows.get("workflow-1")
    assert row is not None
    assert row.state == {"step": 0, "a": 1}


def test_a_poisoned_record_with_a_valid_link_carries_the_chain_on() -> None:
    history = History()
    history.registered("reviewer", "one")
    place = history.records[0].topic, history.records[0].partition
    history.poison(*place)
    history.status_changed("reviewer", "one", "busy")
    tables = folded(history)
    assert tables.aliens == 0
    assert [row.id for row in tables.tables.dead_letters] == [f"{place[0]}:{place[1]}:1"]
    assert tables.tables.agents.get("reviewer")[4] == "busy"  # type: ignore[index]


def test_a_poisoned_record_without_a_link_is_alien_and_no_dead_letter() -> None:
    history = History()
    history.append("agents.events", 0, b"k", b"broken", ())
    tables = folded(history)
    assert (tables.aliens, len(tables.tables.dead_letters)) == (1, 0)


def test_aliens_and_duplicates_change_nothing_but_the_position() -> None:
    history = History()
    first = history.registered("reviewer", "one")
    clean = folded(history).checksums()
    from diurna_schemas.agents import AgentDeregistered

    history.alien(
        AgentDeregistered(
            command_id="zombie", at_ms=history.at_ms, agent_id="reviewer", instance_id="one", reason="never"
        )
    )
    history.duplicate(first)
    tables = folded(history)
    assert tables.checksums() == clean
    assert (tables.aliens, tables.duplicates) == (1, 1)
    assert tables.heads[first.topic, first.partition].next_offset == 3


@pytest.mark.parametrize("seed", range(5))
def test_batches_of_any_size_and_repetitions_give_the_same_tables(seed: int) -> None:
    chance = random.Random(seed)
    history = busy_team(seed, 400)
    whole = folded(history)
    parts = MemoryTables(history.codec)
    before: list[object] = []
    for batch in batches(history.records, chance, 60):
        parts.apply([*before, *batch])  # type: ignore[list-item]
        before = list(batch)
    assert parts.checksums() == whole.checksums()
    assert parts.heads == whole.heads


def test_a_missing_record_is_noticed_and_nothing_is_folded() -> None:
    history = History()
    for number in range(4):
        history.status_changed("reviewer", f"{number}", "busy")
    tables = MemoryTables(history.codec)
    with pytest.raises(OutOfStep) as noticed:
        tables.apply([history.records[0], history.records[2]])
    assert (noticed.value.expected, noticed.value.found) == (1, 2)
    assert tables.heads == {}


def test_heartbeats_may_have_gaps_for_their_topic_is_compacted() -> None:
    history = History()
    beats = [history.heartbeat("reviewer", "one") for _ in range(3)]
    tables = MemoryTables(history.codec)
    tables.apply([beats[0], beats[2]])
    assert len(tables.tables.heartbeats) == 1


def test_a_checksum_notices_a_single_changed_field() -> None:
    tables = folded(busy_team(3, 100))
    rows = list(tables.tables.requests)
    before = checksum(tables.tables.requests.table, rows)
    assert checksum(tables.tables.requests.table, [rows[0]._replace(attempts=9), *rows[1:]]) != before
    assert checksum(tables.tables.requests.table, rows[1:]) != before
    assert checksum(tables.tables.requests.table, [rows[1], rows[0], *rows[2:]]) != before


def test_text_becomes_what_postgres_can_hold() -> None:
    assert plain("a\x00b") == "a\ufffdb"
    assert len(indexed("x" * 5000)) == 200
    assert json_text('{"a":1}') == '{"a":1}'
    assert json_text("not json \x00") == '"not json \ufffd"'


def test_every_table_keeps_its_key_first() -> None:
    for table in TABLES:
        assert table.key == table.columns[: table.key_columns]
        assert len(table.types) == len(table.columns)
    assert {keyed.table for keyed in Tables().keyed()} == set(TABLES) - {EVENTS}


def test_a_removed_row_is_a_change_and_one_that_never_was_is_none() -> None:
    history = History()
    history.registered("reviewer", "one")
    tables = folded(history).tables
    tables.agents.remove("nobody")
    assert tables.agents.changed == {}
    tables.agents.remove("reviewer")
    assert tables.agents.changed == {("reviewer",): None}
    assert list(Rows(TABLES[0])) == []


def test_documents_open_the_json_inside_records_and_tell_what_cannot_be_read() -> None:
    history = History()
    submitted, _ = history.submitted(history.request("request-1", "reviewer"))
    tables = folded(history)
    row = next(iter(tables.tables.events))._asdict()
    document = event_document(row, history.codec)
    assert document["position"] == str(submitted.position)
    assert document["data"]["request"]["payload"] == {"path": "a.py"}
    broken = event_document({**row, "value": b"?"}, history.codec)
    assert broken["data"] is None
    assert "Confluent" in broken["error"]
    assert _documents(RequestSubmitted) == frozenset()
    assert fields_of(history.request("a", "b"))["metadata"] == {}
    assert _documents(DeadLetter) == frozenset()


def test_the_dead_letter_of_a_record_that_fills_a_batch_is_small_enough_for_the_log() -> None:
    full = b"x" * 1_000_000
    for key, value, headers in (
        (b"k", full, ()),
        (full, b"q", ()),
        (b"k", b"q", (("h", full),)),
        (b"k" * 400_000, b"v" * 400_000, tuple((f"h{number}", b"x" * 100) for number in range(2_000))),
    ):
        history = History()
        history.append("broadcasts", 0, key, value, headers)
        letter = letter_of(history.records[0], Unreadable("no"))
        assert len(history.codec.encode(letter)) < 990_000
        assert letter.error.endswith("bytes only the first ones are kept here)")
        assert letter.source == "broadcasts:0:0"
        assert folded(history).tables.dead_letters.get("broadcasts:0:0") is not None
