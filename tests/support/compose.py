"""The compose file as Compose reads it: variables filled in with their defaults, merges done, checked by its schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import compose_spec
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"


def filled_in(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def checked(text: str) -> dict[str, Any]:
    """Raises `ValueError` where it is no compose file."""
    found: dict[str, Any] = yaml.safe_load(filled_in(text))  # does the merges, of which the schema knows nothing
    compose_spec.PyOptions().from_yaml(json.dumps(found)).validate()
    unknown = {
        f"{name}.{key}"
        for name, service in found["services"].items()
        for key in service
        if key not in compose_spec.Service.model_fields and not key.startswith("x-")
    }
    if unknown:
        raise ValueError(f"no such keys: {', '.join(sorted(unknown))}")
    return found
