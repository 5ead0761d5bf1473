"""Decides the commands it is given (JSON on the standard input) in a process of its own, and prints their chain."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, chain_hash
from diurna_schemas.message import Command, Heading
from diurna_streams.conduct import ALL_RULES
from diurna_streams.deciders.rules import Rules


def chain_of(rules: Rules[Any, Any, Any], commands: list[tuple[str, int]]) -> str:
    """The hash of everything these encoded commands lead to, each with the time the log gave it."""
    codec, state, previous = Codec.numbered(), rules.initial, GENESIS
    for offset, (encoded, log_ms) in enumerate(commands):
        command = codec.decode(base64.b64decode(encoded))
        assert isinstance(command, Command)
        decision = rules.decide(state, command, Heading(offset, log_ms))
        state = decision.state
        for index, event in enumerate(decision.events):
            at = f"1.{offset}.{index}"
            previous = chain_hash(previous, at, event.type_name, event.key.encode(), codec.encode(event))
    return previous


if __name__ == "__main__":
    given: dict[str, list[tuple[str, int]]] = json.load(sys.stdin)
    by_name = {rules.family.name: rules for rules in ALL_RULES}
    print(json.dumps({name: chain_of(by_name[name], commands) for name, commands in given.items()}))
