"""What the cicd agent takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from diurna_agents.payload import AbsolutePath, Location, Payload, RefName

Word = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class PipelineRequest(Payload):
    """What `run_pipeline` takes. `test_command` replaces the default `pytest`; it is run without a shell."""

    repo: Location
    head: RefName
    timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
    environment_timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
    test_command: Word | Annotated[list[Word], Field(min_length=1, max_length=100)] | None = None


class ValidationRequest(Payload):
    """What `validate_build` takes. The artifacts are kept in `output` where one is given."""

    repo: Location
    head: RefName
    output: AbsolutePath | None = None
    install: bool = True
    timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
