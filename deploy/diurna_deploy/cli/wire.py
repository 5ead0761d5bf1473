"""What several commands ask of the API and the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from diurna_deploy.cli.session import Session
from diurna_deploy.following import timeline
from diurna_schemas.errors import Refused

if TYPE_CHECKING:
    from diurna_deploy.cli.api import Api

__all__ = ["approval_id_of", "event_body", "incompatible_subjects", "registry_rows", "registry_url_of", "timeline"]


def event_body(event_type: str, data: dict[str, Any], source: str, correlation_id: str | None) -> dict[str, Any]:
    """The body of `POST /events`."""
    body: dict[str, Any] = {"event_type": event_type, "data": data, "source": source}
    return body if correlation_id is None else {**body, "correlation_id": correlation_id}


def approval_id_of(api: Api, about: str) -> str:
    """The open approval of a workflow, else the approval itself. Raises `Refused` where it is decided already."""
    approvals = cast("list[dict[str, Any]]", api.get("/approvals", workflow_id=about))
    if not approvals:
        return about
    waiting = [one for one in approvals if one.get("status") == "pending"]
    if not waiting:
        raise Refused(f"the approval of {about} is {approvals[0].get('status')} already", code="approval_over")
    return str(waiting[0]["approval_id"])


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
