"""`diurna workflow start TYPE`: the options each type takes, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from diurna_deploy.cli.session import Session, json_object

Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Show the events, wait for the end.")]

_URL_MARKS: Final = ("://", "git@")
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "pr_deployment": ("repo", "base", "head", "deploy_to"),
    "parallel_docs": ("repo", "site"),
    "self_healing": ("service",),
}
_TAKEN: Final[dict[str, frozenset[str]]] = {
    "pr_deployment": frozenset({"repo", "base", "head", "deploy_to", "policy", "approval_roles"}),
    "parallel_docs": frozenset({"repo", "head", "site", "documents", "on_failure"}),
    "self_healing": frozenset({"service", "services_file", "attempts", "escalate", "approval_roles"}),
}
_OPTIONS: Final = {"documents": "--document", "approval_roles": "--approval-role"}
"""The options that are called otherwise than the input they give."""


def _path(text: str) -> Path:
    """A path that was given: an empty one, as of a variable that is not set, would be the working directory."""
    if not text:
        raise typer.BadParameter("a path is needed, got ''")
    return Path(text)


def _place(help_text: str) -> Any:
    return typer.Option(parser=_path, metavar="PATH", help=help_text)


def start_workflow(  # one option a line: this is the command's whole outside
    session: Session,
    *,
    workflow_type: Annotated[str, typer.Argument(help="pr_deployment, parallel_docs or self_healing.")],
    repo: Annotated[str | None, typer.Option(help="A path or URL of a git repository.")] = None,
    base: Annotated[str | None, typer.Option(help="Where the change begins: branch, tag or commit.")] = None,
    head: Annotated[str | None, typer.Option(help="What is deployed or documented: branch, tag or commit.")] = None,
    deploy_to: Annotated[Path | None, _place("The directory of the releases.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Who approves: auto, risk, human or never [default: auto].")
    ] = None,
    site: Annotated[Path | None, _place("The directory of the documentation.")] = None,
    documents: Annotated[
        list[str] | None,
        typer.Option("--document", help="api_docs, user_guide or deployment_guide; may be repeated [default: all]."),
    ] = None,
    on_failure: Annotated[
        str | None, typer.Option(help="Where a document fails: publish the others, or refuse [default: publish].")
    ] = None,
    service: Annotated[str | None, typer.Option(help="The name of the service to heal.")] = None,
    services_file: Annotated[Path | None, _place("Where it is declared [default: the agent's own].")] = None,
    attempts: Annotated[int | None, typer.Option(help="How often to try before asking a person [default: 3].")] = None,
    escalate: Annotated[str | None, typer.Option(help="Who is asked at last: human or never [default: human].")] = None,
    approval_roles: Annotated[
        list[str] | None, typer.Option("--approval-role", help="A role of who may decide; may be repeated.")
    ] = None,
    more: Annotated[
        str,
        typer.Option("--input", help="More input as a JSON object, such as health or test_command; @FILE reads it."),
    ] = "{}",
    follow: Follow = True,
) -> None:
    """Starts a workflow; following it, exits 0 when it came to its good end, 1 when it was refused or failed."""
    given = {
        "repo": None if repo is None else located(repo),
        "base": base,
        "head": head,
        "deploy_to": _absolute(deploy_to),
        "policy": policy,
        "site": _absolute(site),
        "documents": documents,
        "on_failure": on_failure,
        "service": service,
        "services_file": _absolute(services_file),
        "attempts": attempts,
        "escalate": escalate,
        "approval_roles": approval_roles,
    }
    options = {name: value for name, value in given.items() if value is not None}
    started = _started(session, workflow_type, options, json_object("--input", more))
    if not follow:
        session.show(started, lambda: session.fields(started))
        return
    follow_to_its_end(session, started)


def _started(session: Session, workflow_type: str, options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    # Types that are unknown here the orchestrator may know.
    for name in options:
        if workflow_type in _TAKEN and name not in _TAKEN[workflow_type]:
            raise typer.BadParameter(f"{workflow_type} takes no {_option(name)}")
    given = {**more, **options}
    missing = [_option(name) for name in _NEEDED.get(workflow_type, ()) if name not in given]
    if missing:
        raise typer.BadParameter(f"{workflow_type} needs {', '.join(missing)}")
    answer: dict[str, Any] = session.api.post("/workflows", {"workflow_type": workflow_type, "input": given})
    return answer


def follow_to_its_end(session: Session, started: dict[str, Any]) -> None:
    """Shows the events of what the orchestrator drives as they come, and its end; exits 1 where that is no good one."""
    from diurna_deploy.following import end_of, follow_workflow
    from diurna_deploy.narration import line, progress

    session.say(f"workflow {started['workflow_id']}")
    events = follow_workflow(session.api, started, tell=lambda event: session.say(progress(event)))
    end = end_of(session.api, started)

    def tell() -> None:
        session.say("")
        session.say(f"Timeline: {len(events)} events", style="bold")
        session.lines(line(event) for event in events)
        session.say("")
        session.say(end.in_words(), style="bold")

    session.show({**end.as_json(), "timeline": events}, tell)
    if not end.is_success:
        raise typer.Exit(1)


def _option(name: str) -> str:
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().absolute())


def located(repo: str) -> str:
    """A path as the agents will find it, wherever they run on this machine; URLs stay as they are."""
    if not repo:
        raise typer.BadParameter("--repo: a path or URL is needed, got ''")
    if any(mark in repo for mark in _URL_MARKS) or _is_scp(repo):
        return repo
    return str(Path(repo).expanduser().absolute())


def _is_scp(repo: str) -> bool:
    """`host:path`, as git takes it; a path of this machine has a slash before its first colon, or exists."""
    host, colon, _ = repo.partition(":")
    return bool(colon) and "/" not in host and not Path(repo).exists()
