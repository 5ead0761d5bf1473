"""Rebuilding, verifying and promoting the tables over HTTP: jobs of a process of their own, one at a time.

Jobs are work, not facts: a server that starts again has forgotten them, and a rebuild goes on where it broke off.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import structlog
from fastapi import APIRouter, Request, Response

from diurna.gateway.routing import answer, command_id, has_key
from diurna_deploy.replay_process import Kind
from diurna_schemas.envelope import iso
from diurna_schemas.errors import Conflict, NotFound, Unavailable

logger = structlog.get_logger(__name__)

JOBS_MAX: Final = 20
"""So many are remembered."""
_LINE_BYTES_MAX: Final = 1024 * 1024

Status = Literal["running", "completed", "failed", "interrupted"]
Told = Callable[[dict[str, Any]], None]
Run = Callable[[Kind, Told], Awaitable[dict[str, Any]]]
"""Does the work, tells `done`, `total` and `per_second` while it goes on, and returns the outcome."""


@dataclass(slots=True)
class Job:
    """One replay, and how far it is."""

    id: str
    name: str
    kind: Kind
    started_at_ms: int
    status: Status = "running"
    done: int = 0
    total: int = 0
    per_second: float = 0.0
    finished_at_ms: int | None = None
    error: str | None = None
    outcome: dict[str, Any] | None = None

    def told(self, progress: dict[str, Any]) -> None:
        """Takes in how far it is."""
        self.done, self.total = progress["done"], progress["total"]
        self.per_second = progress["per_second"]

    def document(self) -> dict[str, Any]:
        """As the API shows it. `different` are the tables that were not equal, where two were compared."""
        left = (self.total - self.done) / self.per_second if self.per_second else None
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "done": self.done,
            "total": self.total,
            "per_second": self.per_second,
            "seconds_left": left if self.status == "running" else None,
            "started_at": iso(self.started_at_ms),
            "finished_at": None if self.finished_at_ms is None else iso(self.finished_at_ms),
            "error": self.error,
            "schema": (self.outcome or {}).get("schema"),
            "checksums": (self.outcome or {}).get("checksums"),
            "different": (self.outcome or {}).get("different"),
        }


async def in_a_process(kind: Kind, told: Told) -> dict[str, Any]:
    """Runs a replay in a child. Raises `Conflict` where it was refused, `Unavailable` where it broke off."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "diurna_deploy.replay_process", kind, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, limit=_LINE_BYTES_MAX,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    noise = asyncio.create_task(child.stderr.read())
    last: dict[str, Any] = {}
    try:
        async for line in child.stdout:
            last = orjson.loads(line)
            if "total" in last:
                told(last)
        await child.wait()
        if "error" in last:
            raise Conflict(last["error"])
        if "outcome" not in last:
            raise Unavailable(f"the {kind} broke off: {(await noise)[-500:].decode(errors='replace').strip()}")
        return dict(last["outcome"])
    finally:
        noise.cancel()
        if child.returncode is None:
            child.terminate()
            await child.wait()


class ReplayJobs:
    """The jobs this server has started. One runs at a time: two would write the same tables."""

    def __init__(
        self, name: str, *, run: Run = in_a_process, clock_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    ) -> None:
        self.name = name
        self._run = run
        self._clock_ms = clock_ms
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def start(self, job_id: str, kind: Kind) -> Job:
        """Starts one; the same id again is the same job. Raises `Conflict` where another runs."""
        if (found := self._jobs.get(job_id)) is not None:
            return found
        running = next((job for job in self._jobs.values() if job.status == "running"), None)
        if running is not None:
            raise Conflict(f"a {running.kind} is running already: job {running.id}", code="job_running")
        job = self._jobs[job_id] = Job(job_id, self.name, kind, self._clock_ms())
        while len(self._jobs) > JOBS_MAX:
            self._jobs.popitem(last=False)
        self._task = asyncio.create_task(self._work(job), name=f"{kind} {job_id}")
        return job

    def job(self, job_id: str) -> Job:
        """One of them. Raises `NotFound`."""
        if (found := self._jobs.get(job_id)) is None:
            raise NotFound("job", job_id)
        return found

    def jobs(self) -> list[Job]:
        """The newest first."""
        return list(reversed(self._jobs.values()))

    async def close(self) -> None:
        """Breaks off what runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self, job: Job) -> None:
        try:
            job.outcome = await self._run(job.kind, job.told)
            job.status = "completed"
        except asyncio.CancelledError:
            job.status = "interrupted"
            raise
        except Exception as error:
            job.status, job.error = "failed", str(error)
            logger.warning("a replay failed", kind=job.kind, error=str(error))
        finally:
            job.finished_at_ms = self._clock_ms()


def replay_router(jobs: ReplayJobs) -> APIRouter:
    """POST /projections/{name}/rebuild, /verify and /promote, and how far they are."""
    router = APIRouter(tags=["operations"])

    def started(request: Request, name: str, kind: Kind) -> Response:
        if name != jobs.name:
            raise NotFound("projection", name)
        job = jobs.start(command_id(request) if has_key(request) else str(uuid.uuid4()), kind)
        return answer(job.document(), 202, {"Location": f"/projections/jobs/{job.id}"})

    @router.post("/projections/{name}/rebuild", status_code=202)
    async def rebuild(request: Request, name: str) -> Response:
        """Makes the tables anew from the log, beside the live ones. `Location` tells how far it is."""
        return started(request, name, "rebuild")

    @router.post("/projections/{name}/verify", status_code=202)
    async def verify(request: Request, name: str) -> Response:
        """Compares the tables made anew with the live ones at equal positions."""
        return started(request, name, "verify")

    @router.post("/projections/{name}/promote", status_code=202)
    async def promote(request: Request, name: str) -> Response:
        """Puts the tables made anew in the live ones' place where they are equal; the live ones are kept."""
        return started(request, name, "promote")

    @router.get("/projections/jobs")
    async def list_jobs() -> list[dict[str, Any]]:
        """The replays this server has started, the newest first."""
        return [job.document() for job in jobs.jobs()]

    @router.get("/projections/jobs/{job_id}")
    async def show_job(job_id: str) -> dict[str, Any]:
        """How far a replay is, and what came of it."""
        return jobs.job(job_id).document()

    return router
