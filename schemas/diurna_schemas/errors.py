"""The one tree of errors: what was answered, what cannot be read, what is unknown.

DiurnaError
├── Refused                    an answer: nothing was written, asking again changes nothing
│   ├── InvalidInput           a field has a value that is not allowed
│   │   └── TooLarge           … because it is too big
│   ├── NotFound               no such agent, request, workflow, lock, checkpoint …
│   ├── Conflict               the state does not allow it
│   │   ├── VersionConflict    … because another writer was first
│   │   │   └── WorkflowConflict   … to a workflow: `current` is the version it is at
│   │   ├── ResourceLockError  … because another has the lock
│   │   │   └── LockLost       … or the lock was ours and is no longer
│   │   └── StaleToken         … because a later holder of the lock was here already
│   └── AgentOffline           nobody is there to take the request
├── Unreadable                 bytes on the log that do not mean anything: a dead letter
│   ├── UnknownSchema          the schema id is in no registry we can ask
│   ├── WrongPartition         the key belongs to another partition
│   └── BrokenChain            an event that does not link to the last accepted one
└── Unavailable                the effect is unknown: a part did not answer
    └── TimedOut               … in time
"""

from __future__ import annotations


class DiurnaError(Exception):
    """The root of every error Diurna raises on purpose."""


class Refused(DiurnaError):
    """An answer that says no. `code` is stable and fit for machines; the text is for people."""

    code = "refused"

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        if code is not None:
            self.code = code


class InvalidInput(Refused):
    """`field` has a `value` that is not allowed, because of `reason`."""

    code = "invalid_input"

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {reason}, got {shown(value)}")
        self.reason = reason  # alone: the text names the field and the value too
        self.field = field
        self.value = value


class TooLarge(InvalidInput):
    """`field` is `size` bytes where `size_max` are allowed."""

    code = "too_large"

    def __init__(self, field: str, size: int, size_max: int) -> None:
        super().__init__(field, f"{size} bytes", f"at most {size_max} bytes are allowed")
        self.size = size
        self.size_max = size_max


class NotFound(Refused):
    """There is no `kind` with this `id`."""

    code = "not_found"

    def __init__(self, kind: str, id: str) -> None:  # noqa: A002 - the field's own word
        super().__init__(f"no {kind} with id {shown(id)}")
        self.kind = kind
        self.id = id


class Conflict(Refused):
    """The present state does not allow it."""

    code = "conflict"


class VersionConflict(Conflict):
    """Another writer was first: the version expected is not the version that is."""

    code = "version_conflict"

    def __init__(self, id: str, *, expected: int, current: int) -> None:  # noqa: A002
        super().__init__(f"{id} is at version {current}, not {expected}")
        self.id = id
        self.expected = expected
        self.current = current


class WorkflowConflict(VersionConflict):
    """Another writer changed the workflow first. Read it again, and decide anew at version `current`."""


class ResourceLockError(Conflict):
    """The lock on `resource_id` was not to be had, or is not the caller's; `holder` has it, as far as that is known."""

    code = "locked"

    def __init__(self, resource_id: str, reason: str, *, holder: str | None = None, code: str | None = None) -> None:
        super().__init__(reason, code=code)
        self.resource_id = resource_id
        self.holder = holder


class LockLost(ResourceLockError):
    """The lock on `resource_id` was held and could not be kept: whoever works on it must stop."""

    code = "lock_lost"


class StaleToken(Conflict):
    """A fencing token smaller than one that was seen already: its holder's lease is over, another has been here."""

    code = "stale_token"

    def __init__(self, resource_id: str, token: int, highest: int | None = None) -> None:
        seen = "a larger one" if highest is None else str(highest)
        super().__init__(f"fencing token {token} of {shown(resource_id)} is stale: {seen} was seen")
        self.resource_id = resource_id
        self.token = token
        self.highest = highest


class AgentOffline(Refused):
    """No live instance of the agent takes requests."""

    code = "agent_offline"

    def __init__(self, agent_id: str, detail: str = "no live instance") -> None:
        super().__init__(f"agent offline: {agent_id}: {detail}")
        self.agent_id = agent_id


class Unreadable(DiurnaError):
    """Bytes on the log that cannot be understood; they go to the dead letters with their position."""


class UnknownSchema(Unreadable):
    """No registry that could be asked knows this schema id."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"unknown schema id {schema_id}")
        self.schema_id = schema_id


class WrongPartition(Unreadable):
    """The record's key belongs to another partition."""

    def __init__(self, key: str, *, found: int, expected: int) -> None:
        super().__init__(f"key {shown(key)} belongs to partition {expected}, found on {found}")
        self.key = key
        self.found = found
        self.expected = expected


class BrokenChain(Unreadable):
    """An event that does not link to the last accepted one: another owner's, or damage."""


class Unavailable(DiurnaError):
    """A part did not answer; whether anything happened is unknown."""


class TimedOut(Unavailable):
    """No answer within the time allowed; whether anything happened is unknown."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what}: no answer within {seconds:g} s")
        self.what = what
        self.seconds = seconds


_SHOWN_MAX = 120


def shown(value: object) -> str:
    """The value as an error shows it: quoted, its control characters escaped, its length bounded."""
    text = ascii(value) if isinstance(value, bytes | str) else repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}… ({len(text)} characters)"
