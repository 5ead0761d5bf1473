"""The commands of the stack: what they are told, and what they leave as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diurna_deploy import cli
from diurna_deploy.cli.app import app

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diurna", *arguments])
        code = cli.run(app)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize(("joined", "stops"), [(False, 1), (True, 0)])
def test_up_stops_what_it_started_and_nothing_that_ran_before(
    run: Run, monkeypatch: pytest.MonkeyPatch, joined: bool, stops: int
) -> None:
    stopped: list[object] = []

    async def start(_: object) -> dict[str, Any]:
        return {"api_url": "http://127.0.0.1:1", "joined": joined}

    async def stop(settings: object) -> list[str]:
        stopped.append(settings)
        return ["server"]

    monkeypatch.setattr("diurna_deploy.lifecycle.start_stack", start)
    monkeypatch.setattr("diurna_deploy.lifecycle.stop_stack", stop)
    monkeypatch.setattr("diurna_deploy.lifecycle.wait_for_interrupt", lambda: None)
    code, out, _ = run("up")
    assert (code, len(stopped)) == (0, stops)
    assert ("goes on running" in out) is joined


@pytest.mark.parametrize(
    ("given", "repo"), [("https://example.com/x.git", "https://example.com/x.git"), ("here", str(Path.cwd() / "here"))]
)
def test_the_demonstration_takes_a_repository_by_its_path_or_url(
    run: Run, monkeypatch: pytest.MonkeyPatch, given: str, repo: str
) -> None:
    subjects: list[Any] = []
    monkeypatch.setattr("diurna_deploy.demo.run_demo", lambda *_, subject, keep: subjects.append((subject, keep)) or 0)
    assert run("demo", "--repo", given, "--base", "main")[0] == 0
    assert [(one.repo, one.base, one.head, keep) for one, keep in subjects] == [(repo, "main", "HEAD", False)]
