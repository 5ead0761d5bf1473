"""Which records of a commands topic are commands at all: deciders and those who check them must agree on it."""

from __future__ import annotations

from diurna_schemas.codec import Codec
from diurna_schemas.errors import Unreadable, shown
from diurna_schemas.message import COMMAND_BYTES_MAX, Command
from diurna_schemas.topics import check_partition
from diurna_streams.log import Record


def read_command(record: Record, codec: Codec) -> Command:
    """The command in a record. Raises `Unreadable` where it is none, or does not belong where it stands."""
    if record.value is not None and len(record.value) > COMMAND_BYTES_MAX:
        raise Unreadable(f"the command is {len(record.value)} bytes, at most {COMMAND_BYTES_MAX} are allowed")
    command = codec.decode(record.value)
    if not isinstance(command, Command) or command.topic != record.topic:
        raise Unreadable(f"a {type(command).__name__} is no command of {record.topic}")
    if command.is_tick:
        return command
    check_partition(command.key, record.partition)
    if record.key is None or record.key != command.key.encode():
        raise Unreadable(f"the record's key is {shown(record.key)}, the command's is {shown(command.key)}")
    return command
