"""The page about the topics: what stands on each, read from the AsyncAPI document."""

from __future__ import annotations

import json
from typing import Any

from diurna_deploy.pages.view import Document, Shown, View


async def topics(view: View) -> Shown:
    """Every topic and every record on it."""
    document: Document = (await view.reading.now("/asyncapi.json")).document
    messages: Document = document["components"]["messages"]
    channels: list[Document] = [
        {
            **channel,
            "kafka": channel["bindings"]["kafka"],
            "records": [_record(messages[name]) for name in channel["messages"]],
        }
        for channel in document["channels"].values()
    ]
    return "topics.html", {"document": document, "channels": channels}


def _record(message: Document) -> Document:
    schema: Document = message["payload"]["schema"]
    fields = [
        {"name": one["name"], "type": _type(one["type"]), "doc": one.get("doc", ""), "optional": "default" in one}
        for one in schema["fields"]
    ]
    return {"name": message["name"], "title": message["title"], "summary": message["summary"], "fields": fields}


def _type(of: Any) -> str:
    """An Avro type in few words."""
    match of:
        case str():
            return of.removeprefix("diurna.")
        case list():
            return " or ".join(_type(one) for one in of)  # pyright: ignore[reportUnknownVariableType]
        case {"logicalType": str(logical)}:
            return logical
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "map", "values": values}:
            return f"map of {_type(values)}"
        case {"type": "enum"}:
            return " | ".join(str(one) for one in of["symbols"])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case {"type": "record", "name": str(name)}:
            return name
        case {"type": inner}:
            return _type(inner)
        case _:
            return json.dumps(of)
