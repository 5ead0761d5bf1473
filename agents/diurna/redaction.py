"""Masks what looks like a secret, in text and in JSON values, before the log gets them: the log never forgets.

Recognised are known forms of tokens, private keys, passwords in URLs, values that stand behind a name like
`password`, `token` or `api_key`, and the values of the environment's own secrets. A secret without a form of its own
that stands alone in a sentence is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self, cast
from urllib.parse import unquote, urlsplit

MASK: Final = "***"
_KNOWN_CHARACTERS_MIN: Final = 8
"""A shorter value would be found in words that have nothing to do with it."""
_DEPTH_MAX: Final = 100

TOKENS: Final = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{20,}")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    ("a Stripe live key", re.compile(r"\b[rs]k_live_[0-9A-Za-z]{20,}\b")),
    ("an Anthropic API key", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,}")),
    ("an OpenAI API key", re.compile(r"\bsk-(?:proj-)?[A-Za-z0-9]{40,}\b")),
    ("a package-index token", re.compile(r"\bpypi-[A-Za-z0-9_-]{50,}")),
)
"""Forms that are a secret wherever they stand, as a review names them; what is masked may be cut short or newer."""

_TELLING: Final = (
    r"(?:password|passwd|passphrase|_pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key"
    r"|encryption[_-]?key|credential)"
)
_NAMES_SECRET: Final = re.compile(_TELLING, re.I)
_NAMES_NO_SECRET: Final = re.compile(
    r"(?:_|-|\b)(?:file|path|dir|url|uri|name|id|type|env|var|count|max|min|limit|size|length|ttl|seconds|used|usage"
    r"|policy|expires_(?:at|in))s?$|^(?:max|min|n|num|total|prompt|completion|fencing)_",
    re.I,
)
_KEYS: Final = re.compile(
    r"(?P<begin>-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)"
    r".*?(?:(?P<end>-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)|\Z)",
    re.S,
)
_KEY_S_END: Final = re.compile(
    r"(?:[A-Za-z0-9+/=]{16,}\s+)*[A-Za-z0-9+/=]*\s*(?P<end>-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)"
)
_FORMS: Final = re.compile(
    r"\b(?:gh[pousr]_|github_pat_|glpat-|glrt-|xox[abeprs]-|xapp-|sk-|[rsw]k_live_|[rs]k_test_|whsec_|npm_|hf_|pypi-"
    r"|dckr_pat_|SG\.|ya29\.|AIza|shpat_|lin_api_|dop_v1_|eyJ[\w-]{8,}\.)[\w.-]{7,}[\w-]"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{8,}"
)
_USER_AND_PASSWORD: Final = re.compile(r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)")
_USER_IS_TOKEN: Final = re.compile(r"(?<=(?i:http)://)[\w.~+-]{16,}(?=@)|(?<=(?i:https)://)[\w.~+-]{16,}(?=@)")
_AUTHORIZATION: Final = re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{8,}")
_SIGNED: Final = re.compile(r"(?i)([?&](?:sig|signature|x-amz-signature|x-amz-credential|x-goog-signature)=)[^&\s\"']+")
_OPTION: Final = re.compile(r"(?i)((?:^|\s)--[\w-]{0,60}" + _TELLING + r"[\w-]{0,60}\s+)(?!-|\*{3})[^\s\"'\[<{]\S*")
_ASSIGNED: Final = re.compile(
    r"(?i)(?<![\w-])(?P<name>[\w-]{0,100}?" + _TELLING + r"[\w-]{0,100})"
    r"(?P<between>[\"']?\s{0,8}(?P<sign>:=|=>|[=:])\s{0,8})"
    r"(?P<value>[rbuf]{0,2}(?:'[^'\n]*'|\"(?:[^\"\\\n]|\\.)*\")|[^\s,;&)'\"\]}]+)"
)
_NOT_A_VALUE: Final = re.compile(
    r"(?i)(?:none|null|nil|true|false|undefined|\.\.\.|…|required|optional|unset|missing|redacted)$"
    r"|\*{3}|\$\w+$|\$\{[^}]*\}?$|\$\(|<[^>]*>$|\{\{|\{\w*\}$|%\("
)
_A_CALL: Final = re.compile(r"[A-Za-z_.]+[(\[]")
_A_TYPE: Final = re.compile(r"[A-Za-z_.]+(?:\[.*|\s*\|.*)?$")
_COUNTED: Final = re.compile(r"-?\d{1,17}(?:\.\d+)?$")
_WORTH_A_LOOK: Final = (
    *("pass", "pwd", "secret", "token", "key", "credential", "://", "bearer", "basic", "sig", "-----"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "glrt-", "xox", "xapp-", "sk-", "k_live_"),
    *("k_test_", "whsec_", "npm_", "hf_", "pypi-", "dckr_", "sg.", "ya29", "aiza", "shpat", "lin_api", "dop_v1", "eyj"),
    *("akia", "asia"),
)
"""Finds quickly that a document holds nothing of all this, as nearly every answer does: much faster than a pattern."""


class Redactor:
    """Masks secrets. `known` are values that are secret whatever they look like."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        values = sorted({value for value in known if len(value) >= _KNOWN_CHARACTERS_MIN}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, values))) if values else None

    @classmethod
    def knowing(cls, environment: Mapping[str, str]) -> Self:
        """One that also knows the values of this environment's secrets, and the passwords in its URLs."""
        return cls(secrets_of(environment))

    def text(self, text: str) -> str:
        """The text with every secret masked. Once masked, it stays as it is."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _KEYS.sub(lambda found: f"{found['begin']}{MASK}{found['end'] or ''}", text)
        text = _KEY_S_END.sub(rf"{MASK}\g<end>", text) if "-----END" in text and "-----BEGIN" not in text else text
        text = _USER_AND_PASSWORD.sub(MASK, text)
        text = _USER_IS_TOKEN.sub(MASK, text)
        text = _FORMS.sub(MASK, text)
        text = _AUTHORIZATION.sub(rf"\1\2{MASK}", text)
        text = _SIGNED.sub(rf"\1{MASK}", text)
        text = _OPTION.sub(rf"\1{MASK}", text)
        return _ASSIGNED.sub(_without_value, text)

    def may_find_in(self, document: str) -> bool:
        """Whether a JSON document is worth looking through."""
        if self._known is not None:
            return True
        folded = document.casefold()  # as a pattern that ignores case would, long s and Kelvin sign too
        return any(word in folded for word in _WORTH_A_LOOK)

    def value(self, value: Any) -> Any:
        """A JSON value with every secret in its texts masked, keys included, and texts whose key names a secret."""
        return self._value(value, _DEPTH_MAX)

    def _value(self, value: object, depth: int) -> object:
        match value:
            case str():
                return self.text(value)
            case dict() if depth:
                fields = cast("dict[object, object]", value)
                return {
                    self.text(key) if isinstance(key, str) else key: self._field(key, found, depth - 1)
                    for key, found in fields.items()
                }
            case list() | tuple() if depth:
                items = cast("list[object]", value)
                return [self._value(item, depth - 1) for item in items]
            case _:
                return value

    def _field(self, key: object, value: object, depth: int) -> object:
        if isinstance(key, str) and isinstance(value, str) and names_a_secret(key) and not _is_no_value(key, value):
            return MASK
        return self._value(value, depth)


def names_a_secret(name: str) -> bool:
    """Whether a field or variable of this name holds a secret, as far as its name tells."""
    return _NAMES_SECRET.search(name) is not None and _NAMES_NO_SECRET.search(name) is None


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """The values in an environment that must not be seen."""
    found: set[str] = set()
    for name, value in environment.items():
        if names_a_secret(name) and not value.startswith("/"):
            found.add(value)
        if "://" in value and "@" in value:
            found |= _passwords(value)
    return {value for value in found if len(value) >= _KNOWN_CHARACTERS_MIN}


def _passwords(url: str) -> set[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    return set() if password is None else {password, unquote(password)}


def _without_value(found: re.Match[str]) -> str:
    name, between, value = found["name"], found["between"], found["value"]
    is_quoted = value[-1:] in {"'", '"'}
    if not names_a_secret(name) or _is_no_value(name, value.strip("'\"")):
        return found[0]
    if not is_quoted and (_A_CALL.match(value) or (found["sign"] == ":" and _A_TYPE.match(value))):
        # `password: str` says what a value will be and `secret = read()` where it comes from: neither is one.
        return found[0]
    return f"{name}{between}{MASK}"


def _is_no_value(name: str, value: str) -> bool:
    if not value or value == name or _NOT_A_VALUE.match(value):
        return True
    return "token" in name.lower() and _COUNTED.match(value) is not None


PATTERNS: Final = Redactor()
"""Knows the forms alone, and no value."""
