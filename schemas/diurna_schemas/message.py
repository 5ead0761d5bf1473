"""What every command and event has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from diurna_schemas.ids import Id

PAYLOAD_BYTES_MAX: Final = 256 * 1024
"""The largest JSON document a message may carry."""
METADATA_BYTES_MAX: Final = 16 * 1024
"""The largest JSON document that travels beside the payload."""
COMMAND_BYTES_MAX: Final = 300 * 1024
"""The largest command: its events, payloads included, must fit into one batch."""
TEXT_CHARACTERS_MAX: Final = 8_000
TIMEOUT_MS_MAX: Final = 7 * 86_400_000


def at_most(bytes_max: int) -> AfterValidator:
    """Text of at most so many bytes in UTF-8."""

    def check(text: str) -> str:
        try:
            size = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError as error:  # half a surrogate pair: it could not be written
            raise ValueError(f"no Unicode text: {error.reason} at character {error.start}") from error
        if size > bytes_max:
            raise ValueError(f"{size} bytes, at most {bytes_max} are allowed")
        return text

    return AfterValidator(check)


JsonText = Annotated[str, at_most(PAYLOAD_BYTES_MAX)]
"""A JSON document as text, at most 256 KiB: deciders carry it, they never look inside."""
SmallJson = Annotated[str, at_most(METADATA_BYTES_MAX)]
"""A JSON document as text, at most 16 KiB."""
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS_MAX)]
"""Words for people: names, reasons, errors."""
Milliseconds = Annotated[int, Field(ge=0, le=2**53)]
Offset = Annotated[int, Field(ge=0, lt=2**43)]


class Part(BaseModel):
    """A frozen record inside a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Message(Part):
    """A frozen record of the log. The class is named as its Avro record; `type_name` is its CloudEvents type."""

    type_name: ClassVar[str]
    topic: ClassVar[str]

    @property
    def key(self) -> str:
        """The record key: whose partition it goes to."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """The CloudEvents subject: what the record speaks about."""
        return self.key

    @property
    def correlation(self) -> str | None:
        """The id that ties a whole piece of work together, where the message knows it."""
        return None


class Command(Message):
    """An intent. The same `command_id` twice is one command."""

    command_id: Id

    @property
    def is_tick(self) -> bool:
        """Whether this is time passing: nobody waits for its answer, and its key is its partition's number."""
        return False


class Event(Message):
    """A fact, decided at `at_ms` (milliseconds UTC, the log's time) because of `command_id`."""

    command_id: Id
    at_ms: Milliseconds


@dataclass(frozen=True, slots=True)
class Heading:
    """Where a command stands and when: all a decider knows of the world. `now_ms` is the log's time."""

    offset: int
    now_ms: int
    incarnation: int = 1
