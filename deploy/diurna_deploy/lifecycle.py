"""The whole of Diurna on one machine: which processes there are, and how they start and stop together."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from diurna_agents import child_environment
from diurna_deploy.environment import inherited
from diurna_deploy.provision import load_clients, provision_tables, provision_topics
from diurna_deploy.stack.processes import ProcessSpec
from diurna_deploy.stack.progress import teller_for
from diurna_deploy.stack.state import Addresses, StateDirectory

if TYPE_CHECKING:
    from diurna_deploy.settings import Settings
    from diurna_deploy.stack.doctor import Check
    from diurna_deploy.stack.lifecycle import Prepare

AGENTS: Final = ("orchestrator", "code-review", "cicd", "infrastructure", "feature-dev", "documentation")
_REGISTRY_STAGE: Final = 0
_METRICS: Final = ("--metrics-port", "0")
"""Where that is stands in the process's ready file. The server and the agents serve theirs beside the rest."""
_AGENT_STOP_SECONDS: Final = 25.0
"""Agents finish what they are at, within their own bound."""


def processes(settings: Settings, addresses: Addresses) -> Sequence[ProcessSpec]:
    """Every Python process of the stack. The server comes first: it holds the schema registry all others ask."""
    ready = StateDirectory(settings.state_dir).processes
    place = urlsplit(addresses.api_url)
    host, port = place.hostname or "127.0.0.1", place.port or 80

    def spec(
        name: str, *role: str, stage: int, stop_seconds: float = 10.0, env: Mapping[str, str] | None = None
    ) -> ProcessSpec:
        ready_file = ready / f"{name}.ready"
        words = (sys.executable, "-m", "diurna_deploy.worker", *role, "--ready-file", str(ready_file))
        shown = ("--log-level", settings.log_level, "--log-format", settings.log_format)
        # Agents stop before the deciders, which hear their farewell. To start, nobody waits for another: what an agent
        # writes is decided once a decider reads it. Only the registry everybody asks first.
        waits_for = _REGISTRY_STAGE if stage > _REGISTRY_STAGE else None
        return ProcessSpec(name, (*words, *shown), env or {}, ready_file, stage, stop_seconds, waits_for)

    # Agents build and install what they are given: they need the user's package index, certificates and keys.
    tools = {**child_environment.for_tools(inherited()), **child_environment.for_git(inherited())}
    if settings.model is not None:
        tools["DIURNA_MODEL"] = settings.model

    return [
        spec("server", "server", "--host", host, "--port", str(port), stage=0),
        spec("decider", "decider", "--member", "embedded", *_METRICS, stage=1),
        spec("projector", "projector", "--member", "embedded", *_METRICS, stage=1),
        spec("auditor", "auditor", *_METRICS, stage=1),
        *(spec(name, "agent", name, stage=2, stop_seconds=_AGENT_STOP_SECONDS, env=tools) for name in AGENTS),
    ]


async def prepare(addresses: Addresses) -> None:
    """Makes topics and tables, before any process looks for them."""
    await asyncio.gather(provision_topics(addresses.kafka_bootstrap_servers), provision_tables(addresses.database_url))


async def start_stack(settings: Settings, *, populate: Prepare | None = None) -> dict[str, Any]:
    """Starts what is not running, and returns the addresses and processes once everything answers.

    `populate` runs in between, when Kafka, Postgres and the server with its schema registry answer.
    """
    from diurna_deploy.stack.lifecycle import up

    loading = asyncio.create_task(asyncio.to_thread(load_clients))  # while the servers start
    stack = await up(
        settings,
        lambda addresses: processes(settings, addresses),
        prepare=prepare,
        populate=populate,
        progress=teller_for(sys.stderr),
        preload=True,
    )
    await loading
    listed = [process.to_json() for process in stack.processes]
    return {**asdict(stack.addresses), "joined": stack.joined, "processes": listed}


async def stop_stack(settings: Settings) -> list[str]:
    """Stops what runs in the state directory, and returns the names of what it stopped."""
    from diurna_deploy.stack.lifecycle import down

    return await down(settings)


async def stack_status(settings: Settings) -> dict[str, Any]:
    """What runs in the state directory."""
    from diurna_deploy.stack.lifecycle import status

    return await status(settings)


async def examine(settings: Settings) -> list[Check]:
    """What is well on this machine and what is not, with what to do."""
    from diurna_deploy.stack import doctor

    return await doctor.examine(settings)


def wait_for_interrupt() -> None:
    """Returns at the first SIGINT or SIGTERM."""
    numbers = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        signal.sigwait(numbers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
