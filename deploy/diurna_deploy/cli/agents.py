"""`diurna agent …`: who is there, and what they can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diurna_deploy.cli.completing import ids, words
from diurna_deploy.cli.session import Session, command, group, json_object

app = group("Who is there, and what they can do.")
AgentId = Annotated[
    str, typer.Argument(help="The agent's id, such as code-review.", autocompletion=ids("/agents", "agent_id"))
]


@command(app, "list", has_past=True)
def list_agents(
    session: Session,
    status: Annotated[
        str | None,
        typer.Option(
            help="Only active, busy, idle, offline or stale ones.",
            autocompletion=words("active", "busy", "idle", "offline", "stale"),
        ),
    ] = None,
    capability: Annotated[str | None, typer.Option(help="Only those that have this capability.")] = None,
) -> None:
    """Lists the agents."""
    found = session.api.get_all("/agents", status=status, capability=capability)
    rows = [{**agent, "capabilities": [one["name"] for one in agent.get("capabilities", [])]} for agent in found]
    if session.as_json:
        session.show(found)
    else:
        session.rows(
            rows,
            ("agent_id", "agent_name", "status", "last_heartbeat", "capabilities"),
            nothing="No agent is registered: `diurna up` starts six.",
        )


@command(app, "show", has_past=True)
def show_agent(session: Session, agent_id: AgentId) -> None:
    """Shows one agent."""
    from diurna_deploy.cli.api import part

    session.fields(session.api.get(f"/agents/{part(agent_id)}"))


@command(app, "search", has_past=True)
def search_agents(session: Session, query: Annotated[str, typer.Argument(help="Words of a capability.")]) -> None:
    """Searches for agents by what they can do."""
    session.rows(
        session.api.get_all("/capabilities/search", q=query),
        ("agent_id", "capability", "description", "tags"),
        nothing=f"No agent can do {query!r}.",
    )


@command(app, "register")
def register_agent(
    session: Session,
    *,
    agent_id: AgentId,
    name: Annotated[str | None, typer.Option(help="The agent's name for people.")] = None,
    base_url: Annotated[str, typer.Option(help="Where it answers over HTTP.")] = "",
    capability: Annotated[list[str] | None, typer.Option(help="NAME or NAME=DESCRIPTION; may be repeated.")] = None,
    metadata: Annotated[str, typer.Option(help="A JSON object; @FILE reads one.")] = "{}",
) -> None:
    """Registers an agent that runs elsewhere; it is listed, and takes no requests from the log."""
    capabilities = [
        {"name": found, "description": description}
        for found, _, description in (text.partition("=") for text in capability or [])
    ]
    body = {
        "agent_id": agent_id,
        "agent_name": name or agent_id,
        "base_url": base_url,
        "capabilities": capabilities,
        "metadata": json_object("--metadata", metadata),
    }
    answer = session.api.post("/register", body)
    session.show(answer, lambda: session.say(f"registered {agent_id} at {answer.get('position')}"))


@command(app, "deregister")
def deregister_agent(session: Session, agent_id: AgentId) -> None:
    """Takes an agent, with all its instances, out of the registry."""
    from diurna_deploy.cli.api import part

    answer = session.api.delete(f"/agents/{part(agent_id)}")
    session.show(answer, lambda: session.say(f"deregistered {agent_id}"))


@command(app, "new")
def new_agent(
    session: Session,
    *,
    name: Annotated[str, typer.Argument(help="The agent's id, such as greeter.")],
    directory: Annotated[Path | None, typer.Option(help="Where its files go [default: a folder of its name].")] = None,
    request_type: Annotated[str, typer.Option(help="What it is asked for.")] = "greet",
) -> None:
    """Writes an agent of your own: ten lines that run, and a test."""
    from diurna_deploy.agent_template import write_agent

    place = directory or Path(name)
    files = [str(path) for path in write_agent(name, place, request_type)]
    program, test = (Path(file).name for file in files)
    session.show(
        {"agent_id": name, "request_type": request_type, "files": files},
        lambda: session.lines(
            [
                f"wrote {' and '.join(files)}",
                f"test it:  cd {place} && python -m pytest {test}",
                f"run it:   cd {place} && python {program}",
                f'ask it:   diurna request send {name} {request_type} --payload \'{{"name": "Ada"}}\'',
            ]
        ),
    )
