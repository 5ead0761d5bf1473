"""Ids as types, and positions on the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, NewType, Self

from pydantic import StringConstraints

from diurna_schemas.errors import InvalidInput

AgentId = NewType("AgentId", str)
InstanceId = NewType("InstanceId", str)
RequestId = NewType("RequestId", str)
CommandId = NewType("CommandId", str)
CorrelationId = NewType("CorrelationId", str)
WorkflowId = NewType("WorkflowId", str)
ResourceId = NewType("ResourceId", str)
Fence = NewType("Fence", int)
"""A fencing token: strictly increasing per resource, below 2^53."""

ANY_AGENT: Final = AgentId("any")
"""The target that stands for: whoever has the capability."""

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
ID_PATTERN: Final = r"^[\x21-\x7e]{1,200}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""An agent's id or an event type: letters, digits, `.`, `_`, `-`, at most 128."""
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""Any other id: 1 to 200 printable ASCII characters without spaces."""

_NAME = re.compile(NAME_PATTERN)
_ID = re.compile(ID_PATTERN)


def checked_name(field: str, value: object) -> str:
    """`value` where it is a name. Raises `InvalidInput` where it is not."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInput(field, value, "1 to 128 letters, digits, '.', '_' or '-' are allowed")
    return value


def checked_id(field: str, value: object) -> str:
    """`value` where it is an id. Raises `InvalidInput` where it is not."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidInput(field, value, "1 to 200 printable characters without spaces are allowed")
    return value


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record stands: `topic:partition:offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str, *, field: str = "position") -> Self:
        """Reads `topic:partition:offset`. Raises `InvalidInput` where it is none."""
        topic, _, rest = text.partition(":")
        partition, _, offset = rest.partition(":")
        if not (
            _NAME.fullmatch(topic.lstrip("_"))
            and _is_count(partition, _PARTITION_DIGITS_MAX)
            and _is_count(offset, _OFFSET_DIGITS_MAX)
        ):
            raise InvalidInput(field, text, "a position is topic:partition:offset")
        return cls(topic, int(partition), int(offset))


_PARTITION_DIGITS_MAX = 9
_OFFSET_DIGITS_MAX = 18
"""Kafka counts partitions in four bytes, and offsets in eight."""


def _is_count(text: str, digits_max: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits_max
