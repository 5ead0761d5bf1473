"""What the feature-dev agent takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from diurna_agents.payload import CommandLine, Location, Payload, RefName, Words

Operation = Literal["lint", "format"]
Rule = Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,5}[0-9]{0,4}$")]
TreePath = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
"""A path inside the repository."""


class TestedRequest(Payload):
    """What every change is given that is tested before and after it. `branch` is made; a default follows the change."""

    repo: Location
    head: RefName
    branch: RefName | None = None
    test_command: CommandLine | None = None
    require_tests: bool = False
    timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)
    environment_timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)


class RefactorRequest(TestedRequest):
    """What `refactor_code` takes. `select` replaces the rules; without `paths`, every Python file is looked at."""

    operations: tuple[Operation, ...] = Field(default=("lint", "format"), min_length=1, max_length=2, strict=False)
    paths: tuple[TreePath, ...] = Field(default=(), max_length=500, strict=False)
    select: tuple[Rule, ...] = Field(default=(), max_length=200, strict=False)
    unsafe_fixes: bool = False


class GenerateRequest(TestedRequest):
    """What `generate_code` takes: the task in words, and files the model should see first."""

    task: Words
    paths: tuple[TreePath, ...] = Field(default=(), max_length=50, strict=False)
    steps_max: int = Field(default=30, ge=1, le=200)
    model_seconds: float = Field(default=600, gt=0, le=3_600, allow_inf_nan=False)


class ExplainRequest(Payload):
    """What `explain_code` takes: the whole of a tree, a directory or file of it, or one `symbol` by its dotted name.

    `prose`: words by a language model beside the structure; `auto` where there is one.
    """

    repo: Location
    head: RefName = "HEAD"
    path: TreePath | None = None
    symbol: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]{0,200}$")] | None = None
    prose: Literal["auto", "never", "required"] = "auto"
    timeout_seconds: float = Field(default=120, gt=0, le=1_200, allow_inf_nan=False)
