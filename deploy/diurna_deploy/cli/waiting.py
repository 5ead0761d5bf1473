"""Waits for a lock over HTTP, as any program without the log can: asked for, looked at, claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.cli.api import part
from diurna_schemas.errors import Refused, TimedOut, Unavailable

if TYPE_CHECKING:
    from diurna_deploy.cli.api import Api

Document = dict[str, Any]

LOOK_SECONDS: Final = 0.2
"""A grant from the queue must be claimed within three seconds."""
_GRACE_SECONDS: Final = 10.0


def acquired(api: Api, body: Mapping[str, Any]) -> Document:
    """The lock, once it is granted and claimed. Raises `Refused` where it is not to be had.

    Whoever stops waiting leaves the queue.
    """
    lock = cast("Document", api.post("/locks", body))
    if lock["status"] != "queued":
        return lock
    path = f"/locks/{part(lock['lock_id'])}"
    waiting = Retrying(
        retry=retry_if_result(lambda found: found["status"] == "queued"),
        stop=stop_after_delay(float(body["wait_timeout"]) + _GRACE_SECONDS),
        wait=wait_fixed(LOOK_SECONDS),
        retry_error_callback=lambda state: None,
    )
    try:
        found = cast("Document | None", waiting(_looked_at, api, path, str(lock["position"])))
        if found is None:
            raise TimedOut(f"the wait for the lock on {lock['resource_id']}", body["wait_timeout"])
        if found["status"] == "held":
            return cast("Document", api.post(f"{path}/renew"))
    except BaseException:
        _left(api, path)
        raise
    why = found["end_reason"] or found["status"].replace("_", " ")
    raise Refused(f"Resource {lock['resource_id']} is {why}: waited {body['wait_timeout']:g} s", code=found["status"])


def lock_id_of(api: Api, lock: str) -> str:
    """The id of a lock that is named by its id, or by the resource it is held on."""
    found = api.get("/locks", resource_id=lock)
    return str(found[0]["lock_id"]) if found else lock


def _looked_at(api: Api, path: str, position: str) -> Document:
    return cast("Document", api.get(path, min_position=position))


def _left(api: Api, path: str) -> None:
    try:
        api.delete(path)
    except (Refused, Unavailable):
        return  # its wait, or its lease, ends by itself
