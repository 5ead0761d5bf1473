"""What the command line refuses: told in a line with the field and the value, and nothing is sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from diurna_deploy import cli
from diurna_deploy.cli.app import app
from support.scripted_api import ScriptedApi, scripted_api

Run = Callable[..., tuple[int, str, str]]
START = ("workflow", "start", "pr_deployment", "--base", "main", "--head", "feature", "--deploy-to", "/srv/x")


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with scripted_api({}) as found:
        yield found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], api: ScriptedApi) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diurna", *arguments, "--api-url", api.url])
        code = cli.run(app)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize("timeout", ["-20", "nan", "inf", "1e12"])
def test_a_time_that_is_none_is_refused_and_never_a_crash(run: Run, api: ScriptedApi, timeout: str) -> None:
    api.answers["POST /agent-request"] = (422, {"detail": "timeout_seconds: is wrong", "code": "invalid_input"})
    code, _, err = run("request", "send", "cicd", "get_status", "--timeout", timeout)
    assert code == 1
    assert err.startswith("diurna: timeout_seconds: ")


@pytest.mark.parametrize("payload", ['{"a": NaN}', '{"a": "\\ud800"}'])
def test_a_payload_that_no_json_can_hold_is_refused_before_anything_is_sent(
    run: Run, api: ScriptedApi, payload: str
) -> None:
    code, _, err = run("request", "send", "cicd", "get_status", "--payload", payload)
    assert code == 1
    assert err.startswith("diurna: payload: it cannot be written as JSON")
    assert api.asked == []


@pytest.mark.parametrize("noun", ["agent", "workflow", "request"])
def test_an_empty_id_names_nothing(run: Run, api: ScriptedApi, noun: str) -> None:
    code, _, err = run(noun, "show", "")
    assert (code, err) == (1, "diurna: id: an id is needed, got ''\n")
    assert api.asked == []


@pytest.mark.parametrize("option", ["--repo", "--deploy-to"])
def test_an_empty_path_is_not_the_working_directory(run: Run, api: ScriptedApi, option: str) -> None:
    code, _, err = run(*START, "--repo", "somewhere", option, "")
    assert code == 2
    assert "needed, got ''" in err
    assert api.asked == []
