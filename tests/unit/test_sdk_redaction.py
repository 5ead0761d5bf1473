"""Secrets are masked wherever they stand, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna.handlers import outcome_of
from diurna.redaction import MASK, PATTERNS, Redactor, names_a_secret, secrets_of

RANDOM = st.integers(2**176, 2**208).map(lambda number: f"Q7{number:x}")
"""Some forty letters and digits."""
# Put together here, so that no scanner of this repository finds a token in it.
PREFIXES = (
    *("ghp_", "gho_", "ghs_", "github" + "_pat_", "glpat-", "xoxb-", "xoxp-", "sk-", "sk-ant-api03-", "sk_live" + "_"),
    *("rk_live" + "_", "npm_", "hf_", "pypi-", "dckr_pat_", "AIza", "ya29.", "eyJhbGciOiJI."),
)
TOKENS = st.builds(lambda prefix, rest: prefix + rest, st.sampled_from(PREFIXES), RANDOM)
NAMES = st.sampled_from(
    (
        *("password", "PASSWORD", "DB_PASSWORD", "PGPASSWORD", "client_secret", "API_KEY", "x-api-key", "apiKey"),
        *("GITHUB_TOKEN", "access_token", "auth-token", "AWS_SECRET_ACCESS_KEY", "private_key", "credential"),
    )
)
SIGNED = st.sampled_from(("{name}={value}", "{name}: {value}", 'export {name}="{value}"', '{{"{name}": "{value}"}}'))
NAMED = st.builds(lambda form, name, value: (form.format(name=name, value=value), value), SIGNED, NAMES, RANDOM)
IN_URL = st.builds(
    lambda scheme, value: (f"{scheme}://ada:{value}@host.example:5432/db?x=1", value),
    st.sampled_from(("https", "postgresql", "redis", "amqp", "git+ssh")),
    RANDOM,
)
IN_HEADER = st.builds(
    lambda kind, value: (f"Authorization: {kind} {value}", value), st.sampled_from(("Bearer", "Basic")), RANDOM
)
IN_OPTION = st.builds(lambda value: (f"tool --registry-token {value} run", value), RANDOM)
ALONE = TOKENS.map(lambda token: (token, token))
KEY = st.lists(RANDOM, min_size=1, max_size=5).map(
    lambda lines: (
        "-----BEGIN RSA PRIVATE " + "KEY-----\n" + "\n".join(lines) + "\n-----END RSA PRIVATE " + "KEY-----",
        lines[0],
    )
)
SECRETS = st.one_of(NAMED, IN_URL, IN_HEADER, IN_OPTION, ALONE, KEY)
AROUND = st.sampled_from(("", " ", "\n", "error: ", "line one\nline two ", "('", "\u00e9 ", "→ "))
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="=:@-Q"), max_size=40).filter(
    lambda text: PATTERNS.text(text) == text
)


@given(SECRETS, AROUND, AROUND)
def test_a_secret_is_masked_wherever_it_stands(secret: tuple[str, str], before: str, after: str):
    shown, value = secret
    masked = PATTERNS.text(f"{before}{shown}{after}")
    assert value not in masked
    assert MASK in masked
    assert PATTERNS.text(masked) == masked, "once masked, it stays as it is"


@given(SECRETS, PLAIN)
def test_secrets_inside_json_values_are_masked_at_any_depth(secret: tuple[str, str], plain: str):
    shown, value = secret
    result: dict[str, Any] = {"log": [f"{plain}\n{shown}"], "deep": [{"er": {"text": shown, "count": 3}}], shown: True}
    outcome = outcome_of(result)
    assert value not in str(outcome.result)
    found = json.loads(str(outcome.result))
    assert (found["deep"][0]["er"]["count"], list(found)[:2]) == (3, ["log", "deep"])
    assert found["log"][0].startswith(plain + "\n")


@given(NAMES, RANDOM)
def test_a_text_whose_key_names_a_secret_is_masked_whatever_it_looks_like(name: str, value: str):
    assert PATTERNS.value({name: value, "name": "ada"}) == {name: MASK, "name": "ada"}


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), SECRETS.map(lambda one: one[0])), st.lists, max_leaves=8
    )
)
def test_what_is_not_worth_a_look_holds_nothing(value: Any):
    document = json.dumps(value, ensure_ascii=False)
    if not PATTERNS.may_find_in(document):
        assert PATTERNS.value(value) == value


@given(
    st.lists(st.sampled_from(("the", "token", "was", "refused", "keys", "secretary", "pass", "x = 1", "a: b", "(c)")))
)
def test_ordinary_words_stay_as_they_are(words: list[str]):
    text = " ".join(words)
    assert PATTERNS.text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "def connect(password: str, token=None, api_key: str | None = None) -> None",
        "login(token=token, password=getpass.getpass())",
        'api_key = os.environ["SERVICE_API_KEY"]',
        "max_tokens=4096, total_tokens: 12, fencing_token=17592186044416",
        "token: 35184372088834",
        "PASSWORD=${DATABASE_PASSWORD}",
        "password: <password>",
        "ssh://git@example.com/a.git git@example.com:a.git",
        "GET https://example.com/a?page=2 failed: 503",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b, sha256 9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc02",
        "-----BEGIN CERTIFICATE-----",
        "TOKEN_FILE=/run/secrets/token",
    ],
)
def test_what_only_speaks_of_secrets_is_left(text: str):
    assert PATTERNS.text(text) == text


def test_what_follows_a_secret_in_a_url_is_left():
    text = "https://example.com/x?access_token=abcdef123456&page=2 and ?sig=abc%2Fdef&se=1"
    assert PATTERNS.text(text) == f"https://example.com/x?access_token={MASK}&page=2 and ?sig={MASK}&se=1"


def test_a_private_key_of_which_only_one_end_was_kept_is_masked():
    begin, end = "-----BEGIN PRIVATE " + "KEY-----", "-----END PRIVATE " + "KEY-----"
    assert PATTERNS.text(f"x\n{begin}\nMIIEvQIBADANBgkqhkiG9w0B") == f"x\n{begin}{MASK}"
    assert "MIIEvQIB" not in PATTERNS.text(f"MIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcw==\n{end}\ndone")


def test_the_secrets_of_an_environment_are_known_by_their_values():
    environment = {
        "SERVICE_TOKEN": "correct-horse-battery",
        "UV_INDEX_URL": "https://ada:w%2Ford-of-ada@index.example/simple",
        "TOKEN_FILE": "/run/secrets/token",
        "PATH": "/usr/bin",
        "SHORT_SECRET": "abc",
        "MAX_TOKENS": "100000000",
    }
    assert secrets_of(environment) == {"correct-horse-battery", "w%2Ford-of-ada", "w/ord-of-ada"}
    text = Redactor.knowing(environment).text("it said correct-horse-battery, w/ord-of-ada and /usr/bin")
    assert text == f"it said {MASK}, {MASK} and /usr/bin"


@pytest.mark.parametrize("name", ["page", "keyboard", "token_count", "secret_name", "TOKEN_FILE", "max_tokens", "key"])
def test_names_that_hold_no_secret_are_not_taken_for_it(name: str):
    assert not names_a_secret(name)


@dataclass
class Answer:
    output: str


def test_answers_of_every_kind_are_masked_and_an_agent_may_leave_them():
    answer = Answer("GITHUB_TOKEN=abc123def456")
    assert json.loads(str(outcome_of(answer).result)) == {"output": f"GITHUB_TOKEN={MASK}"}
    assert json.loads(str(outcome_of(answer, None).result)) == {"output": "GITHUB_TOKEN=abc123def456"}


def test_long_text_costs_little_more_than_its_length():
    for text in ("x" * 300_000, "a b: c= " * 40_000, "password=" * 30_000, "--" * 150_000, "eyJ" * 100_000):
        masked = PATTERNS.text(text)
        assert PATTERNS.text(masked) == masked
