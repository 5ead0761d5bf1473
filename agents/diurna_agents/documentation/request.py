"""What the documentation agent takes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from diurna_agents.payload import AbsolutePath, Location, Payload, RefName

Kind = Literal["api_reference", "user_guide", "deployment_guide"]
Part = Literal["install", "commands", "modules"]
TreePath = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
PackageName = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
SectionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Markdown = Annotated[str, StringConstraints(max_length=64 * 1024)]


class DocsRequest(Payload):
    """What `generate_docs` takes: pages go to the directory `output`, or below `directory` on a new `branch`.

    Where neither is given, the pages come back in the answer.
    """

    repo: Location
    head: RefName = "HEAD"
    kind: Kind
    output: AbsolutePath | None = None
    branch: RefName | None = None
    directory: TreePath = "docs"
    packages: tuple[PackageName, ...] = Field(default=(), max_length=100, strict=False)
    prose: Literal["auto", "never"] = "auto"
    timeout_seconds: float = Field(default=600, gt=0, le=7_200, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.output is not None and self.branch is not None:
            raise ValueError("give output or branch, not both")
        return self


class ReadmeRequest(Payload):
    """What `update_readme` takes: the text of sections, or what is to be made for them, by the names of their markers.

    A section whose markers the file does not have is refused, or added at its end with `append`.
    """

    repo: Location
    head: RefName = "HEAD"
    file: TreePath = "README.md"
    branch: RefName | None = None
    sections: dict[SectionName, Markdown] = Field(default_factory=dict, max_length=50)
    generate: dict[SectionName, Part] = Field(default_factory=dict, max_length=10)
    append: bool = False
    timeout_seconds: float = Field(default=600, gt=0, le=7_200, allow_inf_nan=False)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.sections and not self.generate:
            raise ValueError("give sections, or what to generate for some")
        if twice := self.sections.keys() & self.generate.keys():
            raise ValueError(f"the section {sorted(twice)[0]} is both given and to be generated")
        return self
