"""Recorded history: the rules of today lead the commands of then to the same bytes, and an edited history is caught."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from diurna_schemas.catalogue import TYPE_NAMES
from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, chain_hash
from diurna_schemas.message import Command, Heading
from diurna_streams.deciders.agents import RULES
from support.golden import GOLDEN_IDS, LOG_FILE, events_of

LOG: list[dict[str, Any]] = [json.loads(line) for line in LOG_FILE.read_text(encoding="utf-8").splitlines()]
COMMANDS = {kind.__name__: kind for kind in TYPE_NAMES.values() if issubclass(kind, Command)}


def replayed(log: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    state, previous = RULES.initial, GENESIS
    found: list[list[dict[str, Any]]] = []
    for line in log:
        command = COMMANDS[line["type"]].model_validate(line["command"])
        state, previous, events = events_of(state, command, Heading(line["offset"], line["time_ms"]), previous)
        found.append(events)
    return found


def first_difference(log: list[dict[str, Any]]) -> int | None:
    """The offset of the first command that leads to something else than what was recorded."""
    for line, events in zip(log, replayed(log), strict=True):
        if line["events"] != events:
            return int(line["offset"])
    return None


def broken_link(log: list[dict[str, Any]]) -> str | None:
    """The place of the first event that is not what its hash says, or does not link to the one before."""
    previous = GENESIS
    for line in log:
        for event in line["events"]:
            key = str(event["fields"]["agent_id"]).encode()
            if event["hash"] != chain_hash(previous, event["at"], event["type"], key, bytes.fromhex(event["bytes"])):
                return str(event["at"])
            previous = event["hash"]
    return None


def test_the_recorded_commands_lead_to_the_recorded_bytes() -> None:
    assert first_difference(LOG) is None, "the rules decide something else now: that is a new logic_version"


def test_the_recorded_log_is_worth_replaying() -> None:
    types = {event["type"] for line in LOG for event in line["events"]}
    kinds = {kind for kind in TYPE_NAMES.values() if kind.topic == RULES.family.events}
    assert types == {kind.type_name for kind in kinds}, "every event of agents is in it"


def test_the_recorded_bytes_say_what_the_recorded_fields_say() -> None:
    codec = Codec(GOLDEN_IDS)
    for line in LOG:
        for event in line["events"]:
            assert codec.decode(bytes.fromhex(event["bytes"])).model_dump(mode="json") == event["fields"]


def test_the_recorded_chain_is_whole() -> None:
    assert broken_link(LOG) is None


EVENTS = [(number, index) for number, line in enumerate(LOG) for index in range(len(line["events"]))]


@pytest.mark.parametrize("place", [EVENTS[0], EVENTS[len(EVENTS) // 2], EVENTS[-1]])
def test_an_edited_event_is_caught(place: tuple[int, int]) -> None:
    edited = copy.deepcopy(LOG)
    event = edited[place[0]]["events"][place[1]]
    value = bytearray.fromhex(event["bytes"])
    value[-1] ^= 1
    event["bytes"] = value.hex()
    assert broken_link(edited) == event["at"]
    assert first_difference(edited) == edited[place[0]]["offset"]


def test_an_event_taken_out_is_caught_by_every_reader() -> None:
    edited = copy.deepcopy(LOG)
    line = next(line for line in edited[20:] if line["events"])
    gone = line["events"].pop(0)
    acceptor, previous, aliens = Acceptor(Head()), GENESIS, 0
    for original, left in zip(LOG, edited, strict=True):
        kept = {event["at"] for event in left["events"]}
        for event in original["events"]:
            headers = (
                ("chain_at", event["at"].encode()),
                ("chain_previous", previous.encode()),
                ("chain_hash", event["hash"].encode()),
            )
            previous = event["hash"]
            if event["at"] in kept:
                aliens += acceptor.accept(0, headers) is Verdict.ALIEN
    assert aliens > 0, f"without {gone['at']} nothing after it links"
    assert first_difference(edited) == line["offset"]


def test_an_edited_command_is_caught() -> None:
    edited = copy.deepcopy(LOG)
    line = next(line for line in edited if line["type"] == "SubmitRequest" and line["events"])
    line["command"]["request"]["request_type"] = "something_else"
    assert first_difference(edited) == line["offset"]


def test_a_step_of_the_clock_that_is_edited_is_caught() -> None:
    edited = copy.deepcopy(LOG)
    line = next(line for line in edited[3:] if line["events"])
    line["time_ms"] += 10_000_000
    assert first_difference(edited) == line["offset"]
