"""Writes the golden files. `uv run python tests/golden/make.py` adds what is new; `--again` makes version 1 anew.

Version 1 may be made anew before the first release only: afterwards it stands on somebody's log.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from diurna_schemas.catalogue import RECORDS, schema_text  # noqa: E402
from diurna_schemas.message import Heading, Part  # noqa: E402
from diurna_streams.deciders.agents import RULES  # noqa: E402
from support.golden import (  # noqa: E402
    LOG_FILE,
    RECORDS_FILE,
    SCHEMAS,
    committed_versions,
    differs,
    events_of,
    example_of,
    golden_commands,
    hexadecimal,
    plain,
)


def write_schemas(*, again: bool) -> Iterator[str]:
    """Every current schema that is not the newest committed version yet, as the next one."""
    if again and SCHEMAS.exists():
        shutil.rmtree(SCHEMAS)
    for name in sorted(RECORDS):
        versions = committed_versions(name)
        if versions and not differs(versions[-1], json.loads(schema_text(name))):
            continue
        path = SCHEMAS / name / f"{len(versions) + 1}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schema_text(name), encoding="utf-8")
        yield str(path.relative_to(HERE))


def write_records(*, again: bool) -> Iterator[str]:
    """One record of every type, as bytes and as JSON; those that are there stay as they are."""
    there: dict[str, Any] = {}
    if RECORDS_FILE.exists() and not again:
        there = json.loads(RECORDS_FILE.read_text(encoding="utf-8"))
    for name in sorted(RECORDS):
        if name not in there:
            record: Part = example_of(RECORDS[name])
            there[name] = {"bytes": hexadecimal(record), "record": plain(record)}
            yield f"records: {name}"
    RECORDS_FILE.parent.mkdir(exist_ok=True)
    RECORDS_FILE.write_text(json.dumps(there, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def write_log(*, again: bool) -> Iterator[str]:
    """Commands of one partition of agents, and the events they led to."""
    if LOG_FILE.exists() and not again:
        return
    lines: list[str] = []
    state, previous = RULES.initial, "0" * 32
    for offset, (command, time_ms) in enumerate(golden_commands()):
        state, previous, events = events_of(state, command, Heading(offset, time_ms), previous)
        line = {
            "offset": offset,
            "time_ms": time_ms,
            "type": type(command).__name__,
            "command": command.model_dump(mode="json"),
            "events": events,
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    LOG_FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    yield f"{LOG_FILE.name}: {len(lines)} commands"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--again", action="store_true", help="make version 1 anew: before the first release only")
    again = bool(arguments.parse_args().again)
    written = [*write_schemas(again=again), *write_records(again=again), *write_log(again=again)]
    print("\n".join(written) or "nothing new")


if __name__ == "__main__":
    main()
