"""The tables of docs/EVENT_PROTOCOL.md, made from the topics and the `.avsc` files; `python -m` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from diurna_schemas.catalogue import RECORDS_OF_TOPIC, full_name, schema_of
from diurna_schemas.topics import TOPICS
from support.documents import ROOT

DOCUMENT = "docs/EVENT_PROTOCOL.md"
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)


def written_anew(text: str) -> str:
    """The document with every generated part as it must be."""
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}{match[3]}", text)


def topics() -> str:
    lines = ["| topic | key | partitions | cleanup | kept | timestamp | holds |", "|---|---|---|---|---|---|---|"]
    for topic in TOPICS.values():
        kept = "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // 86_400_000} days"
        cells = (f"`{topic.name}`", topic.key, str(topic.partitions), topic.cleanup, kept, topic.time, topic.holds)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def records() -> str:
    parts: list[str] = []
    for topic, found in RECORDS_OF_TOPIC.items():
        parts.append(f"### `{topic}`\n")
        for record in found:
            name = full_name(record)
            schema = schema_of(name)
            what = f"`{getattr(record, 'type_name', record.__name__)}`"
            parts.append(f"#### {what}\n\n{schema['doc']} Record `{name}`.\n")
            parts.append("| field | type | default |\n|---|---|---|\n" + "".join(_rows(schema)))
    return "\n".join(parts)


def _rows(schema: dict[str, Any], prefix: str = "") -> list[str]:
    rows: list[str] = []
    for field in schema["fields"]:
        default = f"`{_json(field['default'])}`" if "default" in field else ""
        rows.append(f"| `{prefix}{field['name']}` | {_type(field['type'])} | {default} |\n")
        nested = _record_in(field["type"])
        if nested is not None:
            rows += _rows(nested, f"{prefix}{field['name']}.")
    return rows


def _type(kind: Any) -> str:
    match kind:
        case str():
            return kind
        case list():
            return " or ".join(_type(one) for one in kind)
        case {"logicalType": str(logical), "type": str(base)}:
            return f"{base} ({logical})"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "map", "values": values}:
            return f"map of {_type(values)}"
        case {"type": "enum", "symbols": symbols}:
            return " or ".join(f"`{symbol}`" for symbol in symbols)
        case {"type": "record", "name": name}:
            return f"`{name}`"
        case _:
            return str(kind)


def _record_in(kind: Any) -> dict[str, Any] | None:
    match kind:
        case {"type": "record"}:
            return kind
        case {"type": "array", "items": items}:
            return _record_in(items)
        case list():
            return next((found for one in kind if (found := _record_in(one)) is not None), None)
        case _:
            return None


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


PARTS: dict[str, Callable[[], str]] = {"topics": topics, "records": records}


if __name__ == "__main__":
    path = ROOT / DOCUMENT
    path.write_text(written_anew(path.read_text(encoding="utf-8")), encoding="utf-8")
