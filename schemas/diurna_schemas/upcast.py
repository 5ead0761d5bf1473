"""Old facts in today's words: pure functions over the fields of a record, where Avro's own resolution is not enough.

A written field is never renamed or re-used. When the meaning of a record changes in a way that defaults and aliases
cannot express, its upcaster is registered here under the record's full name; it must leave today's form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Fields = dict[str, Any]
Upcaster = Callable[[Fields], Fields]

UPCASTERS: Final[dict[str, Upcaster]] = {}


def of(name: str) -> Upcaster | None:
    """The upcaster of a record's full name, if it has one."""
    return UPCASTERS.get(name)
