"""The files of a new agent: ten lines that run, and a test that passes."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template
from typing import Final

from diurna_schemas.errors import Conflict, InvalidInput
from diurna_schemas.ids import checked_name

_AGENT: Final = Template(
    '''\
"""The agent $agent_id: run it with `python $module.py`."""

import asyncio
from typing import Any

from diurna import Agent, AgentRequestEvent, Rejected


def build(**options: Any) -> Agent:
    agent = Agent("$agent_id", concurrency=8, **options)

    @agent.on_request("$request_type")
    async def $function(request: AgentRequestEvent) -> dict[str, str]:
        if "name" not in request.payload:
            raise Rejected("name: whom to greet?")
        return {"greeting": f"Hello, {request.payload['name']}!"}

    return agent


if __name__ == "__main__":
    asyncio.run(build().run())
'''
)
_TEST: Final = Template(
    '''\
"""The agent $agent_id on a log in memory, with the real deciders behind it."""

import asyncio
from typing import Any

import diurna.testing
from diurna import AgentRequestEvent, AgentResponseEvent
from $module import build


async def ask(payload: dict[str, Any]) -> AgentResponseEvent:
    async with diurna.testing.team() as team:
        async with build(connection=team.connection, port=None).running(), team.bus() as bus:
            return await bus.request_agent(
                AgentRequestEvent(
                    source_agent="test", target_agent="$agent_id", request_type="$request_type", payload=payload
                )
            )


def test_it_greets() -> None:
    response = asyncio.run(ask({"name": "Ada"}))
    assert (response.status, response.result) == ("success", {"greeting": "Hello, Ada!"})


def test_it_rejects_what_it_cannot_do() -> None:
    response = asyncio.run(ask({}))
    assert (response.status, response.error) == ("rejected", "name: whom to greet?")
'''
)


def write_agent(agent_id: str, directory: Path, request_type: str) -> list[Path]:
    """Writes the files into `directory`, all or none. Raises `InvalidInput`, `Conflict` where one of them exists."""
    module = module_of(checked_name("name", agent_id))
    function = module_of(checked_name("request_type", request_type), "request_type")
    words = {"agent_id": agent_id, "module": module, "request_type": request_type, "function": function}
    files = {
        directory / f"{module}.py": _AGENT.substitute(words),
        directory / f"test_{module}.py": _TEST.substitute(words),
    }
    for path in files:
        if path.exists():
            raise Conflict(f"{path} exists already and is left as it is", code="file_exists")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput("directory", str(directory), f"cannot be written to: {error.strerror}") from error
    return list(files)


def module_of(name: str, field: str = "name") -> str:
    """The name as Python can have it. Raises `InvalidInput` where it cannot."""
    module = name.replace("-", "_").replace(".", "_").lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise InvalidInput(field, name, "it must begin with a letter and be no word of Python's own")
    return module
