"""One process of Diurna: `python -m diurna_deploy.worker server|decider|projector|auditor|agent NAME`.

Each role loads only what it needs. SIGTERM and SIGINT end it gracefully; a part that fails for good ends the process
with 1, and whoever started it starts it again.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import structlog

from diurna_deploy import logs
from diurna_deploy.collector import calm

if TYPE_CHECKING:
    from diurna_deploy.roles import Ready, Role

logger = structlog.get_logger(__name__)

ROLES: Final = ("server", "decider", "projector", "auditor", "agent")
FAILED: Final = 1
SERVER_PORT: Final = 8009
PRELOADED: Final[Mapping[str, tuple[str, ...]]] = {
    # what frameworks load only when they are used stands beside what uses them
    "server": (
        "diurna_deploy.server",
        "uvloop",
        "pydantic.v1",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.websockets.auto",
        "uvicorn.lifespan.on",
        "uvicorn.lifespan.off",
        "anyio._backends._asyncio",
        "diurna.network",
        "httpcore",
    ),
    "decider": ("diurna_streams.conduct",),
    "projector": (
        "diurna_streams.project.projector",
        "faust.app",
        "faust.worker",
        "faust.topics",
        "faust.assignor",
        "faust.transport.utils",
        "faust.fixups.django",
        "faust.tables.sets",
    ),
    "auditor": ("diurna_streams.audit",),
    "orchestrator": (
        "diurna_deploy.agent_process",
        "diurna_workflows.manager",
        "diurna_workflows.orchestrator",
        "diurna_workflows.approvals",
        "diurna_deploy.orchestrating",
        "diurna_agents.orchestrator.handlers",
    ),
    "code-review": ("diurna_agents.code_review",),
    "cicd": ("diurna_agents.cicd.handlers",),
    "infrastructure": ("diurna_agents.infrastructure.handlers",),
    "feature-dev": ("diurna_agents.feature_dev",),
    "documentation": ("diurna_agents.documentation.handlers",),
}
"""What a role, or an agent, imports while it starts, in the order in which they do. A forgotten one costs time."""


def preload() -> Iterator[str]:
    """Imports what the roles will import, for processes that are forked from this one, and names who has all it needs.

    So a worker that is forked later imports nothing that the next one would import again.
    """
    for name, modules in PRELOADED.items():
        for module in modules:
            import_module(module)
        yield name


def preloaded_as(arguments: Sequence[str]) -> str:
    """Whom the arguments of a worker stand for in `PRELOADED`: the role, or the agent's name."""
    role, *rest = arguments or ("",)
    return rest[0] if role == "agent" and rest else role


def main(arguments: list[str] | None = None) -> int:
    """Runs one role until it is told to stop, and returns the exit code."""
    given = parser().parse_args(arguments)
    if (given.role == "agent") != (given.name is not None):
        parser().error("agent needs a name, and only agent has one")
    name = given.name or given.role
    logs.configure(process=name, level=given.log_level, as_json=given.log_format == "json")
    traces = _traced(name)
    role = _role(given.role, given.name, given)
    metrics_url = None if given.metrics_port is None else _serve_metrics(given.host, given.metrics_port)
    try:
        import uvloop

        calm()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_told(role, ready=lambda own_url: _tell_ready(given.ready_file, own_url or metrics_url)))
    except Exception as error:
        logger.critical("the process failed", error=str(error), exc_info=None if _says_enough(error) else error)
        return FAILED
    finally:
        if traces is not None:
            traces.stop()
    return 0


def _traced(name: str) -> ModuleType | None:
    """Spans, where the environment asks for them: nothing of it is loaded where it does not."""
    from diurna.settings import wants_traces

    if not wants_traces():
        return None
    from diurna_streams import tracing

    tracing.start(f"diurna-{name}")
    return tracing


async def _until_told(role: Role, *, ready: Ready) -> None:
    """Runs the role, and cancels it when a signal says so."""
    work = asyncio.ensure_future(role(ready))
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        work.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
    logger.info("stopped")


def _role(role: str, name: str | None, given: argparse.Namespace) -> Role:
    from diurna_deploy import roles
    from diurna_deploy.door import Door

    match role:
        case "server":
            return roles.server(host=given.host, port=SERVER_PORT if given.port is None else given.port)
        case "decider":
            return roles.deciders(member=given.member)
        case "projector":
            return roles.projector(member=given.member)
        case "auditor":
            return roles.auditor()
        case _:
            door = Door(given.host, given.port or 0, given.base_url)
            return roles.agent(name or "", work_dir=given.work_dir, door=door)


def _says_enough(error: Exception) -> bool:
    """Whether the words of an error tell all there is: our own do, anybody else's need the way they took."""
    from diurna_schemas.errors import DiurnaError

    return isinstance(error, DiurnaError)


def _serve_metrics(host: str, port: int) -> str:
    """Serves them in a thread of their own, on any free port where `port` is 0, and returns where."""
    from prometheus_client import start_http_server

    server, _ = start_http_server(port, host)
    return f"http://{host}:{server.server_port}/metrics"


def _tell_ready(path: Path | None, metrics_url: str | None) -> None:
    logger.info("ready", metrics_url=metrics_url)
    if path is not None:
        from diurna_deploy.stack.files import write_json

        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"metrics_url": metrics_url})


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m diurna_deploy.worker", description=__doc__)
    found.add_argument("role", choices=ROLES)
    found.add_argument("name", nargs="?", help="which agent")
    found.add_argument("--host", default="127.0.0.1", help="where the server, the agent and the metrics listen")
    found.add_argument("--port", type=int, help=f"where the server listens [{SERVER_PORT}], or the agent [any]")
    found.add_argument("--base-url", help="where others reach the agent, where that is not its host and port")
    found.add_argument("--metrics-port", type=int, help="serves Prometheus' metrics there; 0 is any port")
    found.add_argument("--work-dir", type=Path, help="where agents keep clones and worktrees")
    found.add_argument("--member", help="the name under which a decider or projector gets its partitions back at once")
    found.add_argument("--ready-file", type=Path, help="made once the process works, says where its metrics are")
    found.add_argument("--log-level", default="info")
    found.add_argument("--log-format", choices=("json", "console"), default="json")
    return found


if __name__ == "__main__":
    sys.exit(main())
