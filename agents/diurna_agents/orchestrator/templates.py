"""The kinds of tasks that are known how to do: what each needs, and the plan that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from diurna_agents.orchestrator.plans import Plan
from diurna_agents.payload import AbsolutePath, Location, Payload, RefName, Words, validated
from diurna_schemas.errors import InvalidInput

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of task. `words` tell it in a text; `make` turns its parameters into subtasks."""

    kind: str
    description: str
    parameters: type[Payload]
    words: frozenset[str]
    make: Callable[[Any], list[Json]]


class _Change(Payload):
    repo: Location
    base: RefName
    head: RefName
    deploy_to: AbsolutePath | None = None


class _Tree(Payload):
    repo: Location
    head: RefName = "HEAD"


class _Feature(_Tree):
    task: Words


class _Documents(_Tree):
    output: AbsolutePath | None = None


class _Release(_Tree):
    output: AbsolutePath
    deploy_to: AbsolutePath


class _Services(Payload):
    services_file: AbsolutePath | None = None
    services: Json | None = None
    restart: str | None = Field(default=None, max_length=64)


def _result(path: str) -> Json:
    return {"$result": path}


def _pull_request(given: _Change) -> list[Json]:
    at = {"repo": given.repo, "head": given.head}
    found: list[Json] = [
        {"id": "review", "request_type": "review_code", "payload": {**at, "base": given.base}},
        {"id": "test", "request_type": "run_pipeline", "payload": at},
        {"id": "build", "request_type": "validate_build", "payload": at},
    ]
    if given.deploy_to is not None:
        payload = {**at, "deploy_to": given.deploy_to}
        waits = ["review", "test", "build"]
        found.append({"id": "deploy", "request_type": "deploy_service", "payload": payload, "depends_on": waits})
    return found


def _checked(after: str, given: _Tree) -> list[Json]:
    commit = _result(f"{after}.commit")
    review = {"repo": given.repo, "base": _result(f"{after}.base"), "head": commit}
    return [
        {"id": "review", "request_type": "review_code", "payload": review},
        {"id": "test", "request_type": "run_pipeline", "payload": {"repo": given.repo, "head": commit}},
    ]


def _refactoring(given: _Tree) -> list[Json]:
    at = {"repo": given.repo, "head": given.head}
    return [
        {"id": "explain", "request_type": "explain_code", "payload": {**at, "prose": "never"}},
        {"id": "refactor", "request_type": "refactor_code", "payload": at},
        *_checked("refactor", given),
    ]


def _feature(given: _Feature) -> list[Json]:
    payload = {"repo": given.repo, "head": given.head, "task": given.task}
    return [{"id": "generate", "request_type": "generate_code", "payload": payload}, *_checked("generate", given)]


def _documentation(given: _Documents) -> list[Json]:
    at: Json = {"repo": given.repo, "head": given.head}
    if given.output is not None:
        at["output"] = given.output
    return [
        {"id": kind, "request_type": "generate_docs", "payload": {**at, "kind": kind}}
        for kind in ("api_reference", "user_guide", "deployment_guide")
    ]


def _release(given: _Release) -> list[Json]:
    at = {"repo": given.repo, "head": given.head}
    # Of what a build leaves, the second file is the wheel.
    artifact = {"artifact": _result("build.files.1.path"), "sha256": _result("build.files.1.sha256")}
    build = {**at, "output": given.output}
    return [
        {"id": "test", "request_type": "run_pipeline", "payload": at},
        {"id": "build", "request_type": "validate_build", "payload": build, "depends_on": ["test"]},
        {"id": "deploy", "request_type": "deploy_artifact", "payload": {**artifact, "deploy_to": given.deploy_to}},
        {
            "id": "health",
            "request_type": "health_check",
            "payload": {"deploy_to": given.deploy_to},
            "depends_on": ["deploy"],
        },
    ]


def _health(given: _Services) -> list[Json]:
    declared = {name: value for name, value in given.model_dump(exclude_none=True).items() if name != "restart"}
    found: list[Json] = [{"id": "health", "request_type": "health_check", "payload": declared}]
    if given.restart is not None:
        payload = {**declared, "task": "restart_service", "service": given.restart}
        restart = {"id": "restart", "request_type": "execute_task", "agent": "infrastructure", "payload": payload}
        found.append({**restart, "depends_on": ["health"]})
    return found


TEMPLATES: Final[Mapping[str, Template]] = {
    template.kind: template
    for template in (
        Template(
            "pull_request",
            "reviews, tests and builds a change, and deploys it where deploy_to is given",
            _Change,
            frozenset({"pull", "request", "pr", "merge", "change", "review", "branch"}),
            _pull_request,
        ),
        Template(
            "refactoring",
            "tidies code on a branch, and has the result reviewed and tested",
            _Tree,
            frozenset({"refactor", "refactoring", "tidy", "clean", "format", "lint", "cleanup"}),
            _refactoring,
        ),
        Template(
            "feature",
            "has code written for a task, and the result reviewed and tested",
            _Feature,
            frozenset({"feature", "implement", "develop", "code", "program"}),
            _feature,
        ),
        Template(
            "documentation",
            "writes the API reference, the user guide and the deployment guide side by side",
            _Documents,
            frozenset({"document", "documentation", "docs", "guide", "reference", "manual"}),
            _documentation,
        ),
        Template(
            "release",
            "tests, builds, deploys the artifact that was built, and looks at its health",
            _Release,
            frozenset({"release", "publish", "ship", "artifact", "version"}),
            _release,
        ),
        Template(
            "health",
            "looks at declared services, and restarts one where that is asked for",
            _Services,
            frozenset({"health", "healthy", "service", "services", "restart", "monitor", "outage", "down"}),
            _health,
        ),
    )
}


def planned(kind: str, parameters: Mapping[str, Any]) -> Plan:
    """The plan of a kind of task. Raises `InvalidInput` naming the kind, or the parameter that is wrong."""
    template = TEMPLATES.get(kind)
    if template is None:
        raise InvalidInput("kind", kind, f"known kinds are {', '.join(TEMPLATES)}")
    try:
        given = validated(template.parameters, parameters)
    except InvalidInput as error:
        raise InvalidInput(f"parameters.{error.field}", error.value, f"{kind}: {error.reason}") from error
    return Plan.of(template.make(given))


def kind_of(task: str) -> str | None:
    """The kind whose words a text holds most of; None where it holds none, or of two kinds as many."""
    words = {word.strip(".,:;!?()'\"").lower() for word in task.split()}
    scores = sorted(((len(template.words & words), kind) for kind, template in TEMPLATES.items()), reverse=True)
    (best, kind), (second, _) = scores[0], scores[1]
    return kind if best > second else None
