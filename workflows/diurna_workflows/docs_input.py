"""What parallel documentation is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self, cast

from pydantic import Field

from diurna_agents.payload import AbsolutePath, Location, Payload, RefName, Text, validated
from diurna_schemas.errors import InvalidInput

DocumentName = Literal["api_docs", "user_guide", "deployment_guide"]
FailurePolicy = Literal["publish", "refuse"]
"""What becomes of the documents that were made where another could not be: published without it, or none is."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: the kind the documentation agent knows it by, and its title on the site."""

    kind: str
    title: str


DOCUMENTS: Final[dict[DocumentName, Document]] = {
    "api_docs": Document("api_reference", "API reference"),
    "user_guide": Document("user_guide", "User guide"),
    "deployment_guide": Document("deployment_guide", "Deployment guide"),
}
"""In the order of the site's index."""


class ParallelDocsInput(Payload):
    """The repository and the commit, the directory of the site, which documents, and what to do where one fails."""

    repo: Location
    head: RefName = "HEAD"
    site: AbsolutePath
    title: Text | None = None
    documents: Annotated[tuple[DocumentName, ...], Field(min_length=1, max_length=3, strict=False)] = tuple(DOCUMENTS)
    on_failure: FailurePolicy = "publish"
    prose: Literal["auto", "never"] = "auto"
    timeout_seconds: Annotated[float, Field(gt=0, le=7_200, allow_inf_nan=False)] = 600

    @classmethod
    def read(cls, given: object) -> Self:
        """The input of a workflow. Raises `InvalidInput` naming the first wrong field and its value."""
        if not isinstance(given, Mapping):
            raise InvalidInput("input", given, "a JSON object with repo and site is needed")
        found = validated(cls, cast("Mapping[str, object]", given))
        if len(set(found.documents)) < len(found.documents):
            raise InvalidInput("documents", list(found.documents), "each document is made once")
        return found
