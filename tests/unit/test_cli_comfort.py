"""The command line for those who sit before it: tables, colours where somebody sees them, completion, progress."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from diurna_deploy import cli
from diurna_deploy.bench import suite
from diurna_deploy.cli.app import app
from diurna_deploy.cli.benches import NAMES, _rows
from diurna_deploy.stack.progress import Lines
from diurna_deploy.telling import Steps, telling, words_of
from support.scripted_api import ScriptedApi, scripted_api

LONG = "a-name-that-is-much-longer-than-any-terminal-is-wide-" * 3
AGENTS = [
    {"agent_id": "cicd", "agent_name": LONG, "status": "active", "capabilities": []},
    {"agent_id": "code-review", "agent_name": "Code review", "status": "stale", "capabilities": []},
]
Run = Callable[..., str]


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with scripted_api({"GET /agents": AGENTS}) as found:
        yield found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], api: ScriptedApi) -> Run:
    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["diurna", *arguments, "--api-url", api.url])
        assert cli.run(app) == 0
        return capsys.readouterr().out

    return call


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", str(columns))):
        monkeypatch.setenv(name, value)


def test_ids_are_shown_as_they_are_and_never_as_emoji(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /requests/job:x:1"] = {"request_id": "job:x:1", "correlation_id": "deploy:a:fire:"}
    assert run("request", "show", "job:x:1").split() == ["request_id", "job:x:1", "correlation_id", "deploy:a:fire:"]


def test_piped_output_has_no_colours_and_cuts_nothing_off(run: Run) -> None:
    printed = run("agent", "list")
    assert "\x1b" not in printed
    assert LONG in printed
    assert printed.splitlines()[0].split() == ["agent_id", "agent_name", "status", "last_heartbeat", "capabilities"]


def test_a_terminal_shows_a_table_that_fits_with_statuses_in_colour(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    printed = run("agent", "list")
    assert "\x1b[32mactive" in printed
    assert "\x1b[31mstale" in printed
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert max(map(len, plain.splitlines())) <= 80
    assert "cicd" in plain
    assert "code-review" in plain
    assert "…" in plain


def test_no_color_is_honoured_on_a_terminal_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in run("agent", "list")


def test_json_is_json_on_a_terminal_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    assert json.loads(run("agent", "list", "--json")) == AGENTS


# --- completion -------------------------------------------------------------------------------------------


def completed(line: str, **environment: str) -> list[str]:
    """What bash is offered at the end of the line."""
    words = line.split(" ")
    told = {
        "_DIURNA_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        **environment,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_")}
    program = Path(sys.executable).parent / "diurna"
    done = subprocess.run([program], env=kept | told, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_the_tab_key_completes_commands_and_options() -> None:
    assert {"workflow", "agent", "lock"} <= set(completed("diurna "))
    assert completed("diurna workflow res") == ["restore", "resume"]
    assert "--json" in completed("diurna agent list --")


def test_the_tab_key_completes_what_there_is(api: ScriptedApi) -> None:
    assert completed("diurna agent show c", DIURNA_API_URL=api.url) == ["cicd", "code-review"]
    assert completed("diurna agent show co", DIURNA_API_URL=api.url) == ["code-review"]
    assert "review_code" in completed("diurna request send cicd re", DIURNA_API_URL=api.url)
    assert completed("diurna bench w3") == ["w3", "w3-langgraph"]


def test_where_nobody_answers_nothing_is_offered_and_nothing_said(tmp_path: Path) -> None:
    assert completed("diurna agent show c", DIURNA_API_URL="http://127.0.0.1:1") == []
    assert completed("diurna agent show c", DIURNA_STATE_DIR=str(tmp_path)) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_can_be_printed(shell: str) -> None:
    program = Path(sys.executable).parent / "diurna"
    told = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([program, "--show-completion", shell], env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "_DIURNA_COMPLETE" in done.stdout


# --- progress ---------------------------------------------------------------------------------------------


@dataclass
class At:
    done: int
    total: int
    per_second: float


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (At(1_000, 4_000, 50), "1,000 of 4,000 records, 50/s, 60 s left"),
        (At(1, 7, 0.05), "1 of 7 records, 3.0/min, 120 s left"),
        (At(0, 7, 0), "0 of 7 records, 0/s"),
    ],
)
def test_progress_says_how_far_how_fast_and_how_long_still(progress: At, words: str) -> None:
    assert words_of(progress, "records") == words


def test_progress_that_is_piped_is_lines_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diurna_deploy.telling._LINE_EVERY_SECONDS", 0)
    stream = io.StringIO()
    with telling("rebuild", "records", stream) as told:
        told(At(0, 10, 0))
        told(At(5, 10, 5))
    assert stream.getvalue() == "rebuild: 5 of 10 records, 5/s, 1 s left\n"


def test_a_download_says_its_rate_and_how_long_it_takes_still() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.download("kafka", 0, 100_000_000)
    lines.download("kafka", 50_000_000, 100_000_000)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("kafka: downloaded 0.0 of 100.0 MB")
    assert re.search(r"downloaded 50\.0 of 100\.0 MB, [\d.]+ MB/s, \d+ s left$", second)


async def test_a_bench_tells_of_each_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    async def quick(*_: object) -> dict[str, object]:
        return {"median_ms": 1.5, "reference": {"median_ms": 3}}

    monkeypatch.setattr(suite, "BENCHES", {"w1": quick, "w2": quick})
    heard: list[tuple[int, int]] = []

    def told(steps: Steps) -> None:
        heard.append((steps.done, steps.total))

    found = await suite.measure([], settings=None, rounds=1, told=told)  # type: ignore[arg-type]
    assert heard == [(0, 2), (1, 2), (2, 2)]
    assert _rows(found)[:2] == [
        {"measurement": "w1", "figure": "median_ms", "value": 1.5},
        {"measurement": "w1", "figure": "reference.median_ms", "value": 3},
    ]


def test_what_is_measured_may_log_and_the_output_is_the_figures_alone() -> None:
    """In a process of its own: how a process logs is set once."""
    measured = """
import sys
import structlog
from diurna_deploy import cli
from diurna_deploy.bench import suite
from diurna_deploy.cli.app import app

async def loud(*_):
    structlog.get_logger().info("projecting")
    structlog.get_logger().warning("a warning")
    return {"median_ms": 1.5}

suite.BENCHES["w1"] = loud
sys.argv = ["diurna", "bench", "w1", "--json"]
sys.exit(cli.run(app))
"""
    found = subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(found.stdout) == {"w1": {"median_ms": 1.5}}
    assert "a warning" in found.stderr


def test_the_benches_that_are_offered_are_those_there_are() -> None:
    assert tuple(suite.BENCHES) == NAMES


def test_a_command_loads_no_other_command_line_than_its_own(tmp_path: Path) -> None:
    code = (
        "import atexit, sys; from diurna_deploy.cli import main\n"
        "atexit.register(lambda: print([name in sys.modules for name in ('httpx', 'click')]))\n"
        f"sys.argv = ['diurna', 'agent', 'list', '--state-dir', {str(tmp_path)!r}]\n"
        "main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout.strip()) == (cli.UNAVAILABLE, "[True, False]"), ran.stderr
