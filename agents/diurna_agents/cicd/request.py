"""What the cicd agent takes."""

from __future__ import annotations

from pydantic import Field

from diurna_agents.payload import AbsolutePath, CommandLine, Location, Payload, RefName


class PipelineRequest(Payload):
    """What `run_pipeline` takes. `test_command` replaces the default `pytest`; it is run without a shell."""

    repo: Location
    head: RefName
    timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
    environment_timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
    test_command: CommandLine | None = None


class ValidationRequest(Payload):
    """What `validate_build` takes. The artifacts are kept in `output` where one is given."""

    repo: Location
    head: RefName
    output: AbsolutePath | None = None
    install: bool = True
    timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
