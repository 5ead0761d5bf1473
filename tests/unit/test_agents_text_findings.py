"""Conflict markers and secrets among added lines."""

from __future__ import annotations

import pytest

from diurna_agents.code_review.text_findings import conflict_markers, secrets

CONFLICT = ["<" * 7 + " HEAD", "ours", "=" * 7, "theirs", ">" * 7 + " feature"]
# Put together here, so that no scanner of this repository finds a token in it.
TOKENS = {
    "an AWS access key": "AKIA" + "Q3EGRZ7WLTFHXCVB",
    "a GitHub token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a Slack token": "xoxb-" + "123456789012-abcdefABCDEF",
    "an Anthropic API key": "sk-ant-" + "api03-abcdefghijklmnopqrstu",
    "a GitLab token": "glpat-" + "abcdefghij0123456789",
    "a Stripe live key": "sk_live_" + "abcdefghij0123456789ABCD",
}


def everything(lines: list[str]) -> frozenset[int]:
    return frozenset(range(1, len(lines) + 1))


def test_a_conflict_left_in_is_found_where_it_begins():
    found = conflict_markers("a.py", ["x = 1", *CONFLICT], everything(["x = 1", *CONFLICT]))
    assert [(finding.line, finding.severity) for finding in found] == [(2, "blocking")]


def test_a_conflict_that_was_there_before_is_not_this_changes():
    assert conflict_markers("a.py", CONFLICT, frozenset({2})) == []


def test_a_heading_underlined_with_equals_is_no_conflict():
    lines = ["Heading", "=" * 7, "text"]
    assert conflict_markers("a.rst", lines, everything(lines)) == []


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_found_and_not_repeated_in_the_message(kind: str):
    found = list(secrets("settings.py", ["import os", f'TOKEN = "{TOKENS[kind]}"'], frozenset({2})))
    assert [(finding.line, finding.rule, finding.severity) for finding in found] == [(2, "secret", "blocking")]
    assert kind in found[0].message
    assert TOKENS[kind] not in found[0].message


def test_a_token_on_an_old_line_is_not_this_changes():
    assert list(secrets("a.py", [TOKENS["a GitHub token"]], frozenset())) == []


@pytest.mark.parametrize(
    "line",
    [
        'KEY = "AKIA' + 'IOSFODNN7EXAMPLE"',
        'password = "changeme-please-now"',
        'password = "${DATABASE_PASSWORD}"',
        'password = "all-lower-words-here"',
        'api_key = os.environ["SERVICE_API_KEY"]',
        f'TOKEN = "{TOKENS["a GitHub token"]}"  # pragma: allowlist secret',
    ],
)
def test_what_is_not_meant_as_a_secret_is_let_be(line: str):
    assert list(secrets("a.py", [line], frozenset({1}))) == []


def test_a_random_looking_password_is_a_comment():
    found = list(secrets("a.py", ['db_password = "q8Zt2LmX0vBn4Ks"'], frozenset({1})))
    assert [(finding.rule, finding.severity) for finding in found] == [("possible-secret", "comment")]
    assert "q8Zt2" not in found[0].message
