"""Replays as jobs: one at a time, told while they go on, and honest about how they ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from diurna_deploy.replay_jobs import JOBS_MAX, ReplayJobs, Told, in_a_process
from diurna_deploy.replay_process import Kind, main
from diurna_schemas.errors import Conflict, NotFound


async def test_a_job_tells_how_far_it_is_and_what_came_of_it() -> None:
    on = asyncio.Event()

    async def run(kind: Kind, told: Told) -> dict[str, Any]:
        told({"done": 30, "total": 100, "per_second": 10.0})
        await on.wait()
        return {"schema": "next", "checksums": {"a": "1"}, "different": ["a"]}

    jobs = ReplayJobs("tables", run=run, clock_ms=lambda: 1_000)
    job = jobs.start("one", "verify")
    await asyncio.sleep(0)
    found = job.document()
    assert (found["status"], found["done"], found["total"], found["seconds_left"]) == ("running", 30, 100, 7.0)
    with pytest.raises(Conflict, match="a verify is running already: job one"):
        jobs.start("two", "rebuild")
    assert jobs.start("one", "verify") is job
    on.set()
    await jobs._task  # type: ignore[misc]
    found = jobs.job("one").document()
    assert (found["status"], found["different"], found["schema"]) == ("completed", ["a"], "next")
    assert found["seconds_left"] is None
    assert found["finished_at"] == "1970-01-01T00:00:01.000Z"
    with pytest.raises(NotFound):
        jobs.job("two")


async def test_a_job_that_fails_or_is_broken_off_says_so() -> None:
    async def run(kind: Kind, told: Told) -> dict[str, Any]:
        if kind == "promote":
            raise Conflict("not promoted: a differs")
        await asyncio.Event().wait()
        raise AssertionError

    jobs = ReplayJobs("tables", run=run)
    failed = jobs.start("one", "promote")
    await jobs._task  # type: ignore[misc]
    assert (failed.status, failed.error) == ("failed", "not promoted: a differs")
    broken_off = jobs.start("two", "rebuild")
    await asyncio.sleep(0)
    await jobs.close()
    assert broken_off.status == "interrupted"
    assert [job.id for job in jobs.jobs()] == ["two", "one"]


async def test_only_so_many_jobs_are_remembered() -> None:
    async def run(kind: Kind, told: Told) -> dict[str, Any]:
        return {}

    jobs = ReplayJobs("tables", run=run)
    for number in range(JOBS_MAX + 5):
        jobs.start(str(number), "verify")
        await jobs._task  # type: ignore[misc]
    assert len(jobs.jobs()) == JOBS_MAX


async def test_a_process_that_finds_no_log_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIURNA_KAFKA_BOOTSTRAP_SERVERS", "DIURNA_SCHEMA_REGISTRY_URL", "DIURNA_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIURNA_STATE_DIR", str(tmp_path))
    with pytest.raises(Conflict, match="no stack is running here"):
        await in_a_process("verify", lambda _: None)


def test_an_unknown_replay_is_a_mistake_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rebuilt"]) == 2
    assert "one of rebuild, verify, promote is expected, got ['rebuilt']" in capsys.readouterr().err
