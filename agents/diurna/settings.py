"""Where a client finds the log, the API and the schema registry: the environment, else the stack running here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, cast

from diurna_schemas.errors import Unavailable

KAFKA: Final = "DIURNA_KAFKA_BOOTSTRAP_SERVERS"
API: Final = "DIURNA_API_URL"
SCHEMA_REGISTRY: Final = "DIURNA_SCHEMA_REGISTRY_URL"
DATABASE: Final = "DIURNA_DATABASE_URL"
STATE_DIR: Final = "DIURNA_STATE_DIR"
STACK_FILE: Final = "stack.json"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The addresses a client needs. `api_url` is missing where only the log is known."""

    kafka_bootstrap_servers: str
    schema_registry_url: str
    api_url: str | None = None

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads the environment; what it leaves open comes from the `stack.json` of the stack running here.

        Raises `Unavailable` where an address is to be found nowhere.
        """
        given = os.environ if environment is None else environment
        stack_file = state_dir(given) / STACK_FILE
        stack = _stack(stack_file)
        return cls(
            kafka_bootstrap_servers=_address(given, KAFKA, stack, "kafka_bootstrap_servers", stack_file),
            schema_registry_url=_address(given, SCHEMA_REGISTRY, stack, "schema_registry_url", stack_file),
            api_url=(given.get(API) or stack.get("api_url") or "").rstrip("/") or None,
        )


def api_url(environment: Mapping[str, str] | None = None) -> str:
    """The address of the API alone. Raises `Unavailable` where it is to be found nowhere."""
    given = os.environ if environment is None else environment
    stack_file = state_dir(given) / STACK_FILE
    return _address(given, API, _stack(stack_file), "api_url", stack_file).rstrip("/")


def database_url(environment: Mapping[str, str] | None = None) -> str:
    """The database the projections are in. Raises `Unavailable` where it is to be found nowhere."""
    given = os.environ if environment is None else environment
    stack_file = state_dir(given) / STACK_FILE
    return _address(given, DATABASE, _stack(stack_file), "database_url", stack_file)


def wants_traces(environment: Mapping[str, str] | None = None) -> bool:
    """Whether OpenTelemetry's standard variables ask for spans over OTLP."""
    given = os.environ if environment is None else environment
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    return any(given.get(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT") for name in ("", "TRACES_"))


def state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """The state directory: `DIURNA_STATE_DIR`, else the platform's own place for a user's state."""
    given = os.environ if environment is None else environment
    if directory := given.get(STATE_DIR):
        return Path(directory).expanduser()
    import platformdirs  # not needed where the environment says it

    return Path(platformdirs.user_state_dir("diurna"))


def _address(given: Mapping[str, str], variable: str, stack: dict[str, Any], name: str, stack_file: Path) -> str:
    if found := given.get(variable) or stack.get(name):
        return str(found)
    raise Unavailable(f"{variable} is not set and no stack is running here ({stack_file}): set it, or run `diurna up`")


def _stack(path: Path) -> dict[str, Any]:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path} cannot be read: {error}: run `diurna doctor`") from error
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
