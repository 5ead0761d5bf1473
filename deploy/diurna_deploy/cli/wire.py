"""What several commands ask of the API and the registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import typer

from diurna_deploy.cli.session import Session
from diurna_deploy.following import timeline
from diurna_schemas.errors import Refused

if TYPE_CHECKING:
    from diurna_deploy.cli.api import Api

__all__ = [
    "approval_of",
    "changes_of",
    "checkpoint_id_of",
    "event_body",
    "incompatible_subjects",
    "registry_rows",
    "registry_url_of",
    "timeline",
]


def event_body(event_type: str, data: dict[str, Any], source: str, correlation_id: str | None) -> dict[str, Any]:
    """The body of `POST /events`."""
    body: dict[str, Any] = {"event_type": event_type, "data": data, "source": source}
    return body if correlation_id is None else {**body, "correlation_id": correlation_id}


def approval_of(api: Api, about: str) -> tuple[str, str | None]:
    """The open approval of a workflow and the workflow, else the approval itself.

    Raises `Refused` where it is decided already.
    """
    waiting = cast("list[dict[str, Any]]", api.get("/approvals", workflow_id=about, status="pending", limit=1))
    if waiting:
        return str(waiting[0]["approval_id"]), about
    settled = cast("list[dict[str, Any]]", api.get("/approvals", workflow_id=about, limit=1))
    if settled:
        raise Refused(f"the approval of {about} is {settled[0].get('status')} already", code="approval_over")
    return about, None


def checkpoint_id_of(api: Api, workflow_id: str, given: str | None) -> str:
    """The checkpoint that was named, else the newest. Raises `Refused` where the workflow has none."""
    from diurna_deploy.cli.api import part

    if given is not None:
        return given
    found = cast("list[dict[str, Any]]", api.get(f"/workflows/{part(workflow_id)}/checkpoints", limit=1))
    if not found:
        hint = "one that the orchestrator drives is forked at a step: --checkpoint STEP"
        raise Refused(f"workflow {workflow_id} has no checkpoint; {hint}", code="checkpoint_not_found")
    return str(found[0]["checkpoint_id"])


def changes_of(option: str, given: list[str]) -> dict[str, Any]:
    """A JSON Merge Patch made of `KEY=VALUE` texts. Raises `BadParameter` where one is none, or two contradict."""
    patch: dict[str, Any] = {}
    for text in given:
        names, sign, value = text.partition("=")
        *path, last = names.split(".")
        if not sign or not all((*path, last)):
            raise typer.BadParameter(f"{option}: KEY=VALUE is needed, got {text[:80]!r}")
        place = patch
        for name in path:
            inner: object = place.setdefault(name, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"{option}: {text[:80]!r} leads into what another one sets")
            place = cast("dict[str, Any]", inner)
        if isinstance(place.get(last), dict):
            raise typer.BadParameter(f"{option}: {text[:80]!r} takes away what another one sets")
        place[last] = _json_or_text(value)
    return patch


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text


def _no_json(word: str) -> None:
    """`NaN` and `Infinity` are words: Python's parser alone takes them for JSON."""
    raise ValueError(word)


def registry_url_of(session: Session, given: str | None) -> str:
    """The schema registry to speak to. Raises `Unavailable` where nobody said where it is."""
    from diurna.settings import STATE_DIR, ClientSettings

    if given is not None:
        return given.rstrip("/")
    environment = None if session.state_dir is None else {STATE_DIR: str(session.state_dir)}
    return ClientSettings.load(environment).schema_registry_url


async def registry_rows(url: str) -> list[dict[str, Any]]:
    """Every version of every subject the registry knows."""
    from diurna_streams.schema_registry.client import SchemaRegistryClient

    async with SchemaRegistryClient(url) as client:
        found = await client.all_schemas()
    return [{"subject": one.subject, "version": one.version, "id": one.id} for one in found]


async def incompatible_subjects(url: str, given: dict[str, str] | None) -> list[str]:
    """The subjects whose schema, ours or the given ones, may not follow what the registry knows."""
    from diurna_schemas.catalogue import schema_text, subjects
    from diurna_streams.schema_registry.client import SchemaRegistryClient

    ours = given or {subject: schema_text(name) for subject, name in subjects()}
    async with SchemaRegistryClient(url) as client:
        return [subject for subject, schema in ours.items() if not await client.compatible(subject, schema)]
