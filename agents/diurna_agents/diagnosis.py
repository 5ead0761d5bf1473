"""What an agent says when it is asked why a service is ill: a cause, a remedy, how sure it is, and what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from diurna_agents.payload import AbsolutePath, Payload, ServiceName, validated

Remedy = Literal["none", "restart_service", "ask_person"]
"""Nothing is to be done; another process may do; or nothing an agent can do will help."""


class DiagnosisRequest(Payload):
    """What `diagnose_service` takes: the `issues` of a health check, and what `execute_task` answered of the service.

    `standing` is how its process stands, `declared` how it is run, `output` the end of what it said; where it is
    declared is for the agent that keeps it.
    """

    service: ServiceName
    services: dict[str, Any] | None = None
    services_file: AbsolutePath | None = None
    issues: tuple[dict[str, Any], ...] = Field(default=(), max_length=500, strict=False)
    standing: dict[str, Any] | None = None
    declared: dict[str, Any] | None = None
    output: Annotated[str, StringConstraints(max_length=64 * 1024)] = ""

    @classmethod
    def read(cls, payload: Mapping[str, object]) -> DiagnosisRequest:
        """Raises `InvalidInput` naming the first wrong field and its value."""
        return validated(cls, payload)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One agent's word. `confidence` is from 0 to 1: it weighs the vote."""

    diagnosis: str
    remedy: Remedy
    confidence: float
    evidence: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """As an answer holds it."""
        return {**asdict(self), "evidence": list(self.evidence)}
