"""Payloads are validated, and a refusal names the field and the value."""

from __future__ import annotations

import pytest

from diurna_agents.cicd.request import PipelineRequest
from diurna_agents.code_review.policy import ReviewRequest
from diurna_agents.documentation.request import DocsRequest
from diurna_agents.infrastructure.request import DeployRequest
from diurna_agents.infrastructure.services import Declared
from diurna_agents.payload import Payload, validated
from diurna_schemas.errors import InvalidInput

REVIEW = {"repo": "/srv/repo", "base": "main", "head": "feature"}
DOCS = {"repo": "/srv/repo", "head": "main", "kind": "api_reference"}
DEPLOY = {"repo": "/srv/repo", "head": "main", "deploy_to": "/srv/app"}


def refusal(model: type[Payload], payload: dict[str, object]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        validated(model, payload)
    return caught.value


def test_an_unknown_field_is_refused_by_name():
    error = refusal(ReviewRequest, {**REVIEW, "brench": "x"})
    assert error.field == "brench"
    assert "no such field" in str(error)
    assert "'x'" in str(error)


def test_a_missing_field_is_named():
    error = refusal(ReviewRequest, {"repo": "/srv/repo", "base": "main"})
    assert error.field == "head"
    assert "required" in str(error)


def test_a_nested_field_is_named_with_its_path():
    error = refusal(ReviewRequest, {**REVIEW, "policy": {"findings_max": 0}})
    assert error.field == "policy.findings_max"
    assert "got 0" in str(error)


@pytest.mark.parametrize(
    ("check", "field"),
    [({"kind": "tcp", "port": 99_999}, "port"), ({"kind": "tcp"}, "port"), ({"kind": "ping"}, None),
     ({"kind": "tcp", "port": 80, "tcp": 1}, "tcp")],
)  # fmt: skip
def test_the_member_of_a_union_is_no_part_of_the_path(check: dict[str, object], field: str | None):
    error = refusal(Declared, {"services": {"web": {"checks": [check]}}})
    assert error.field == "services.web.checks.0" + ("" if field is None else f".{field}")


def test_what_is_wrong_with_all_of_it_is_the_payload():
    assert refusal(DocsRequest, {**DOCS, "output": "/x", "branch": "y"}).field == "payload"


@pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf"), "900", True, None])
def test_a_time_limit_that_is_none_is_refused(value: object):
    error = refusal(PipelineRequest, {"repo": "/r", "head": "main", "timeout_seconds": value})
    assert error.field == "timeout_seconds"
    assert repr(value) in str(error)


@pytest.mark.parametrize("value", ["-oProxyCommand=x", "a\nb", "", "\x7f"])
def test_names_that_a_tool_could_misread_are_refused(value: str):
    assert refusal(ReviewRequest, {**REVIEW, "head": value}).field == "head"


@pytest.mark.parametrize(
    ("command", "words"), [('pytest "x', "No closing quotation"), ("  ", "it names no program"), (5, "valid string")]
)
def test_a_command_that_is_none_is_refused_by_its_own_field(command: object, words: str):
    tested = refusal(PipelineRequest, {"repo": "/r", "head": "main", "test_command": command})
    healthy = refusal(DeployRequest, {**DEPLOY, "health": {"command": command}})
    assert (tested.field, healthy.field) == ("test_command", "health.command")
    assert words in str(tested)
    assert repr(command) in str(healthy)


def test_a_relative_directory_to_deploy_to_is_refused():
    error = refusal(DeployRequest, {**DEPLOY, "deploy_to": "srv/app"})
    assert error.field == "deploy_to"
    assert "absolute" in str(error)


def test_two_ways_to_tell_health_are_refused():
    error = refusal(DeployRequest, {**DEPLOY, "health": {"module": "app.health", "command": "true"}})
    assert "command and module" in str(error)


def test_a_health_url_must_be_a_web_address():
    error = refusal(DeployRequest, {**DEPLOY, "health": {"url": "file:///etc/passwd"}})
    assert error.field == "health.url"


def test_lists_of_a_json_payload_are_taken_as_they_are():
    request = validated(ReviewRequest, {**REVIEW, "policy": {"ignored_rules": ["B1", "E501"]}})
    assert request.policy.ignored_rules == ("B1", "E501")


def test_whole_seconds_are_seconds():
    assert validated(PipelineRequest, {"repo": "/r", "head": "h", "timeout_seconds": 60}).timeout_seconds == 60
