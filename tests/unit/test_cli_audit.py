"""`diurna audit verify`: what it prints and how it exits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from diurna_deploy import cli
from diurna_deploy.cli import audit as commands
from diurna_deploy.cli.app import app
from diurna_schemas.errors import Unavailable
from diurna_schemas.ids import Position
from diurna_streams.audit import Divergence, PartitionReport, Report
from diurna_streams.audit.findings import Counts

Run = Callable[..., tuple[int, str, str]]
WRONG = Divergence(
    "differs", Position("locks.events", 3, 17), "14.0 ResourceLocked(agent_id='one')",
    "14.0 ResourceLocked(agent_id='two')", Position("locks.commands", 3, 14),
)  # fmt: skip


def report(divergence: Divergence | None = None) -> Report:
    found = PartitionReport("locks", 3, Counts(redecided=18, commands=15, duplicates=2), {1: 18}, 18, 15)
    found.divergence = divergence
    return Report([found], 1.5)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("DIURNA_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("DIURNA_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")

    def call(outcome: Report | Exception, *arguments: str) -> tuple[int, str, str]:
        asked: list[Any] = []

        async def audited(client: Any, families: Any, told: Any) -> Report:
            asked.append(families)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(commands, "audited", audited)
        monkeypatch.setattr(sys, "argv", ["diurna", "audit", "verify", *arguments])
        code = cli.run(app)
        captured = capsys.readouterr()
        assert asked == [[word for word in arguments if word in {"locks", "agents"}]]
        return code, captured.out, captured.err

    return call


def test_a_clean_log_exits_0_and_says_how_fast_that_was(run: Run) -> None:
    code, out, _ = run(report())
    assert code == 0
    assert "Clean: 15 commands in 1.5 s (10/s)." in out
    assert "decided_again" in out


def test_a_divergence_exits_1_and_is_named_with_its_position_and_both_events(run: Run) -> None:
    code, out, _ = run(report(WRONG), "--family", "locks", "--family", "agents")
    assert code == 1
    for part in ("locks.events:3:17: differs", "locks.commands:3:14", WRONG.expected, WRONG.found):
        assert part in out
    assert "1 of 1 partitions differ" in out


def test_json_has_everything(run: Run) -> None:
    code, out, _ = run(report(WRONG), "--json")
    found = json.loads(out)
    assert code == 1
    assert found["clean"] is False
    assert found["divergences"] == [WRONG.to_json()]
    assert found["divergences"][0]["position"] == "locks.events:3:17"
    assert found["totals"]["redecided"] == 18
    assert found["partitions"][0]["logic_versions"] == {"1": 18}


def test_a_log_that_does_not_answer_exits_3(run: Run) -> None:
    code, out, err = run(Unavailable("Kafka does not answer"), "--json")
    assert (code, out) == (3, "")
    assert json.loads(err)["error"]["code"] == "unavailable"
