"""`diurna audit verify`: what it prints, how it tells how far it is, and how it exits."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from diurna_deploy import auditing, cli
from diurna_deploy.cli.app import app
from diurna_schemas.errors import Unavailable
from diurna_schemas.ids import Position
from diurna_streams.audit import Divergence, PartitionReport, Progress, Report
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

        async def audit(client: Any, families: Any, **_options: Any) -> Report:
            asked.append(families)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(auditing, "audit", audit)
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


def test_progress_says_how_far_how_fast_and_how_long_still() -> None:
    progress = Progress(records_total=4_000, records_done=1_000, commands=500)
    progress.began -= 10
    assert auditing.words_of(progress) == "1,000 of 4,000 records, 50 commands/s, 30 s left"


async def test_where_nobody_draws_bars_a_line_is_said_now_and_then() -> None:
    stream = io.StringIO()
    progress = Progress(records_total=100, records_done=50)
    async with auditing._telling(stream) as told:
        told(progress)
        assert stream.getvalue() == ""
        progress.began -= 10
        told(progress)
        told(progress)
    assert stream.getvalue().count("audit: 50 of 100 records") == 1
