"""What files say of how a project is deployed: Dockerfiles, compose files, CI, pyproject; read, never run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from diurna_agents.structured_files import parsed

_FILE_BYTES_MAX: Final = 1024 * 1024
_INSTRUCTION: Final = re.compile(r"^\s*(?P<word>[A-Za-z]+)\s+(?P<rest>.*)$", re.S)
_ENVIRONMENT_PAIR: Final = re.compile(r"(?:^|\s)([A-Za-z_]\w*)=(?:\"[^\"]*\"|'[^']*'|\S*)")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_]\w*)(?:(:?[-?+])([^}]*))?\}|\$([A-Za-z_]\w*)")


@dataclass(slots=True)
class Image:
    """One Dockerfile. `instructions` are those that matter to who runs it, in order."""

    path: str
    stages: list[str] = field(default_factory=list[str])
    ports: list[str] = field(default_factory=list[str])
    variables: list[str] = field(default_factory=list[str])
    volumes: list[str] = field(default_factory=list[str])
    instructions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(slots=True)
class ComposeService:
    """One service of a compose file. Of its environment the names are told, never the values."""

    name: str
    image: str
    ports: list[str]
    variables: list[str]
    volumes: list[str]
    needs: list[str]
    command: str
    has_health_check: bool


@dataclass(slots=True)
class Pipeline:
    """One CI file: when it runs, and its jobs with the commands they run."""

    path: str
    triggers: list[str]
    jobs: dict[str, list[str]]


def read_dockerfile(path: str, text: str) -> Image:
    """The facts of a Dockerfile."""
    image = Image(path)
    for word, rest in _instructions(text):
        match word:
            case "FROM":
                image.stages.append(rest)
            case "EXPOSE":
                image.ports += rest.split()
            case "ENV" | "ARG":
                pairs = _ENVIRONMENT_PAIR.findall(rest)
                image.variables += pairs or [rest.split("=")[0].split()[0]]
            case "VOLUME":
                image.volumes.append(rest)
            case "ENTRYPOINT" | "CMD" | "USER" | "WORKDIR" | "HEALTHCHECK" | "STOPSIGNAL":
                image.instructions.append((word, rest))
            case _:
                pass
    image.variables = list(dict.fromkeys(image.variables))
    return image


def read_compose(path: str, raw: bytes) -> tuple[list[ComposeService], list[str]]:
    """The services of a compose file, and the variables it wants from outside. Raises `InvalidInput`."""
    document = parsed(path, path, raw, "yaml").plain
    found: list[ComposeService] = []
    for name, given in _mapping(document.get("services")).items():
        service = _mapping(given)
        build = service.get("build")
        image = str(service.get("image") or (f"built from {_mapping(build).get('context', build)}" if build else "-"))
        found.append(
            ComposeService(
                name=name,
                image=image,
                ports=_ports(service.get("ports")),
                variables=_names(service.get("environment")),
                volumes=[_volume(one) for one in _sequence(service.get("volumes"))],
                needs=_names(service.get("depends_on")),
                command=_command(service.get("command")),
                has_health_check="healthcheck" in service,
            )
        )
    return found, list(dict.fromkeys(_outside(raw.decode("utf-8", "replace"))))


def read_pipeline(path: str, raw: bytes) -> Pipeline:
    """The facts of a CI file of GitHub's or GitLab's form. Raises `InvalidInput`."""
    document = parsed(path, path, raw, "yaml").plain
    if "jobs" in document:
        # YAML 1.1 reads the word `on` as true.
        triggers = document.get("on", document.get("True"))
        jobs = {name: list(_steps(_mapping(job))) for name, job in _mapping(document["jobs"]).items()}
        return Pipeline(path, [str(triggers)] if isinstance(triggers, str) else _names(triggers), jobs)
    jobs = {
        name: [str(line) for part in ("before_script", "script") for line in _sequence(_mapping(job).get(part))]
        for name, job in document.items()
        if isinstance(job, Mapping) and "script" in job and not name.startswith(".")
    }
    return Pipeline(path, [], jobs)


def text_of(file: Path) -> bytes:
    """The content of a file, in bounds."""
    with file.open("rb") as opened:
        return opened.read(_FILE_BYTES_MAX)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines))
    for line in whole.splitlines():
        found = _INSTRUCTION.match(line)
        if found is not None:
            yield found["word"].upper(), " ".join(found["rest"].split())


def _steps(job: Mapping[str, Any]) -> Iterator[str]:
    for step in _sequence(job.get("steps")):
        fields = _mapping(step)
        if "run" in fields:
            yield from (line.strip() for line in str(fields["run"]).splitlines() if line.strip())
        elif "uses" in fields:
            yield f"uses {fields['uses']}"


def _ports(value: Any) -> list[str]:
    found: list[str] = []
    for one in _sequence(value):
        if isinstance(one, Mapping):
            port = _mapping(one)
            found.append(f"{port.get('published', '')}:{port.get('target', '')}".strip(":"))
        else:
            found.append(str(one))
    return found


def _volume(value: Any) -> str:
    if isinstance(value, Mapping):
        volume = _mapping(value)
        return f"{volume.get('source', '')}:{volume.get('target', '')}"
    return str(value)


def _command(value: Any) -> str:
    return " ".join(map(str, _sequence(value)))


def _names(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return list(map(str, cast("Mapping[str, Any]", value)))
    return [str(one).partition("=")[0] for one in _sequence(value)]


def _outside(text: str) -> Iterator[str]:
    for found in _VARIABLE.finditer(text.replace("$$", "")):
        name = found[1] or found[4]
        yield f"{name} (else `{found[3]}`)" if found[2] in {":-", "-"} and found[3] else name


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _sequence(value: object) -> list[Any]:
    if isinstance(value, str):
        return [value]
    return list(cast("list[object]", value)) if isinstance(value, list) else []
