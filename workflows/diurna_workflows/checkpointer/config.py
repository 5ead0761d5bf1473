"""What a LangGraph config says about threads: checked, because it comes from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from langchain_core.runnables import RunnableConfig

from diurna_schemas.checkpoints import CHANNEL_BYTES_MAX, NAMESPACE_BYTES_MAX
from diurna_schemas.errors import InvalidInput, TooLarge
from diurna_schemas.ids import checked_id

DURABILITY: Final = "__pregel_durability"
"""Where LangGraph says with what durability a run saves: in what it hands to its checkpointer, while it runs."""
_RUNTIME: Final = "__pregel_runtime"
"""What LangGraph gives to whatever a run does; whoever reads or changes a state has none."""
THREAD_ID_CHARACTERS_MAX: Final = 190
"""So that `thread:…` is an id still: the name of the thread's lock."""


class Place(NamedTuple):
    """Where a config points: a thread, a namespace in it, and a checkpoint where one is named."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str | None

    @classmethod
    def of(cls, config: RunnableConfig | None) -> Place:
        """Raises `InvalidInput` naming what is wrong."""
        found = _configurable(config)
        return cls(
            checked_thread(found.get("thread_id")), checked_namespace(found.get("checkpoint_ns")), _checkpoint_id(found)
        )

    def at(self, checkpoint_id: str | None) -> RunnableConfig:
        """A config that points to a checkpoint of this namespace."""
        configurable: dict[str, Any] = {"thread_id": self.thread_id, "checkpoint_ns": self.checkpoint_ns}
        if checkpoint_id is not None:
            configurable["checkpoint_id"] = checkpoint_id
        return {"configurable": configurable}


def checked_thread(thread_id: object, field: str = "thread_id") -> str:
    """The id where it is one. Raises `InvalidInput`."""
    if not isinstance(thread_id, str):
        raise InvalidInput(f"configurable.{field}", thread_id, "a string is needed")
    checked_id(field, thread_id)
    if len(thread_id) > THREAD_ID_CHARACTERS_MAX:
        raise InvalidInput(field, thread_id, f"at most {THREAD_ID_CHARACTERS_MAX} characters are allowed")
    return thread_id


def checked_namespace(checkpoint_ns: object) -> str:
    """The namespace where it is one; none is the root graph's. Raises `InvalidInput`."""
    if checkpoint_ns is None:
        return ""
    return checked_text("configurable.checkpoint_ns", checkpoint_ns, NAMESPACE_BYTES_MAX)


def checked_channel(channel: object) -> str:
    """The channel's name where it is one. Raises `InvalidInput`."""
    if type(channel) is str and channel in _channels:
        return channel
    checked = checked_text("channel", channel, CHANNEL_BYTES_MAX)
    if len(_channels) >= _CHANNELS_MAX:
        _channels.clear()
    _channels.add(checked)
    return checked


def check_channels(channels: Mapping[Any, Any]) -> None:
    """Raises `InvalidInput` where one of these is no channel's name."""
    if not _channels.issuperset(channels):
        for channel in channels:
            checked_channel(channel)


_CHANNELS_MAX: Final = 10_000
_channels: set[str] = set()
"""Those that were found right: the same few come again with every checkpoint."""


def checked_text(field: str, value: object, bytes_max: int) -> str:
    """The text where Postgres and the log can hold it. Raises `InvalidInput`."""
    if not isinstance(value, str):
        raise InvalidInput(field, value, "a string is needed")
    if "\x00" in value:
        raise InvalidInput(field, value, "no NUL is allowed")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(field, value, f"no Unicode text: {error.reason}") from error
    if size > bytes_max:
        raise TooLarge(field, size, bytes_max)
    return value


def check_mapping(field: str, value: object) -> None:
    """Raises `InvalidInput` where the value is no mapping."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidInput(field, value, "a mapping is needed")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a listing is bound to; what is none is open."""

    thread_id: str | None
    checkpoint_ns: str | None
    checkpoint_id: str | None

    @classmethod
    def of(cls, config: RunnableConfig | None) -> Bounds:
        """Raises `InvalidInput` naming what is wrong."""
        if config is None:
            return cls(None, None, None)
        found = _configurable(config)
        namespace = found.get("checkpoint_ns")
        return cls(
            checked_thread(found.get("thread_id")),
            None if namespace is None else checked_namespace(namespace),
            _checkpoint_id(found),
        )


def goes_on(config: RunnableConfig) -> bool:
    """Whether a run goes on while what it saves is written: LangGraph's durability "async", which is its default.

    Who saves checkpoints without a run says nothing of it, and waits.
    """
    return _configurable(config).get(DURABILITY) == "async"


def begins_to_write(config: RunnableConfig) -> bool:
    """Whether who asks is a run that will save its checkpoints as it goes."""
    return _configurable(config).get(DURABILITY) in {"async", "sync"}


def is_of_run(config: RunnableConfig) -> bool:
    """Whether a run asks or writes, and not somebody who reads or changes a state."""
    return _RUNTIME in _configurable(config)


def before_of(config: RunnableConfig | None) -> str | None:
    """The checkpoint before which a listing ends. Raises `InvalidInput`."""
    return None if config is None else _checkpoint_id(_configurable(config))


def _configurable(config: object) -> Mapping[str, Any]:
    if type(config) is not dict and not isinstance(config, Mapping):
        raise InvalidInput("config", config, "a mapping with `configurable` in it is needed")
    found = cast("Mapping[str, object]", config).get("configurable")
    if type(found) is not dict and not isinstance(found, Mapping):
        raise InvalidInput("config.configurable", found, "a mapping with `thread_id` in it is needed")
    return cast("Mapping[str, Any]", found)


def _checkpoint_id(configurable: Mapping[str, Any]) -> str | None:
    found = configurable.get("checkpoint_id")
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise InvalidInput("configurable.checkpoint_id", found, "a string is needed")
    return checked_id("checkpoint_id", found)
