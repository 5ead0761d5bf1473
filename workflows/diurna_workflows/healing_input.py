"""What self-healing is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import Field

from diurna_agents.payload import AbsolutePath, Payload, ServiceName, validated
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Name

BACKOFF_SECONDS_MAX: Final = 300.0


class SelfHealingInput(Payload):
    """The service, where it is declared, how often to try, and who is asked where that did not help.

    It is declared in `services`, else in `services_file`, else where the infrastructure agent keeps its own.
    """

    service: ServiceName
    services: dict[str, Any] | None = None
    services_file: AbsolutePath | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    backoff_seconds: Annotated[float, Field(ge=0, le=BACKOFF_SECONDS_MAX, allow_inf_nan=False)] = 2.0
    escalate: Literal["human", "never"] = "human"
    approval_roles: Annotated[tuple[Name, ...], Field(max_length=20, strict=False)] = ()
    approval_timeout_seconds: Annotated[float, Field(gt=0, le=7 * 86_400, allow_inf_nan=False)] | None = None

    @classmethod
    def read(cls, given: object) -> Self:
        """The input of a workflow. Raises `InvalidInput` naming the first wrong field and its value."""
        if not isinstance(given, Mapping):
            raise InvalidInput("input", given, "a JSON object with service is needed")
        found = validated(cls, cast("Mapping[str, object]", given))
        if found.services is not None and found.services_file is not None:
            raise InvalidInput("services_file", found.services_file, "give services or services_file, not both")
        if found.services is not None and found.service not in found.services:
            raise InvalidInput("service", found.service, f"services declares {', '.join(found.services) or 'none'}")
        return found

    def wait_seconds(self, attempt: int) -> float:
        """How long to wait after so many attempts: twice as long each time, and bounded."""
        return min(BACKOFF_SECONDS_MAX, self.backoff_seconds * 2.0 ** (attempt - 1))

    @property
    def place(self) -> dict[str, Any]:
        """Where the service is declared, as the infrastructure agent takes it."""
        places = {"services": self.services, "services_file": self.services_file}
        return {name: value for name, value in places.items() if value is not None}
