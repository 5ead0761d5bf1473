"""Builds a project's sdist and wheel, and reads what they say about themselves."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.metadata import RawMetadata, parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from diurna_agents import process
from diurna_agents.checkout import Checkout, git_is_installed
from diurna_agents.python_project import PythonProject
from diurna_agents.uv_tool import Uv

_METADATA_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left in a directory, and how it went."""

    finished: process.Finished
    wheel: Path | None
    sdist: Path | None


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """What a wheel says about itself; `problems` are what no installer should accept in silence."""

    name: str
    version: str
    requires_python: str | None
    requires: list[str]
    modules: list[str]
    scripts: list[str]
    problems: list[str]


def version_hints(project: PythonProject, tree: Checkout, environment: Mapping[str, str]) -> dict[str, str]:
    """What build backends need to be told where no git program can tell them the version."""
    if not project.version_from_git or git_is_installed(environment.get("PATH")):
        return {}
    version = tree.version_from_tags or "0.0.0"
    return {
        "SETUPTOOLS_SCM_PRETEND_VERSION": version,
        "PDM_BUILD_SCM_VERSION": version,
        "POETRY_DYNAMIC_VERSIONING_BYPASS": version,
        "PBR_VERSION": version,
    }


async def build(uv: Uv, output: Path, *, python: str, sdist: bool, timeout_seconds: float) -> Built:
    """Builds the project in uv's directory: the wheel, from the sdist where one is wanted too."""
    which = [] if sdist else ["--wheel"]
    place: list[str | Path] = ["--python", python, "--out-dir", output]
    finished = await uv.run("build", *which, *place, timeout_seconds=timeout_seconds)
    return Built(finished, _only(output, "*.whl"), _only(output, "*.tar.gz"))


async def build_from_sdist(uv: Uv, sdist: Path, output: Path, *, timeout_seconds: float) -> Built:
    """Builds the wheel of an sdist."""
    finished = await uv.run("build", "--wheel", "--out-dir", output, sdist, timeout_seconds=timeout_seconds)
    return Built(finished, _only(output, "*.whl"), sdist)


async def read_wheel(path: Path) -> WheelFacts:
    """The facts in a wheel's metadata, and what is wrong with them."""
    return await asyncio.to_thread(_read_wheel, path)


async def read_sdist(path: Path) -> RawMetadata | None:
    """The PKG-INFO of an sdist; None where it has none."""
    return await asyncio.to_thread(_read_sdist, path)


def checksum(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _only(directory: Path, pattern: str) -> Path | None:
    return next(iter(sorted(directory.glob(pattern))), None)


def _read_wheel(path: Path) -> WheelFacts:
    try:
        return _wheel_facts(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return WheelFacts("", "", None, [], [], [], [f"the wheel cannot be read: {error}"])


def _wheel_facts(path: Path) -> WheelFacts:
    problems: list[str] = []
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        folder = next((name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA")), None)
        if folder is None:
            return WheelFacts("", "", None, [], [], [], ["the wheel has no METADATA"])
        metadata, _ = parse_email(_read_member(wheel, f"{folder}/METADATA"))
        entry_points = _read_member(wheel, f"{folder}/entry_points.txt").decode("utf-8", "replace")
        if f"{folder}/RECORD" not in names:
            problems.append("the wheel has no RECORD")
    name, version = metadata.get("name", ""), metadata.get("version", "")
    requires_python = metadata.get("requires_python")
    problems += _problems(path, name, version, requires_python)
    modules = _modules(names)
    if not modules:
        problems.append("the wheel holds no importable module")
    return WheelFacts(
        name=name,
        version=version,
        requires_python=requires_python,
        requires=metadata.get("requires_dist", []),
        modules=modules,
        scripts=_scripts(entry_points),
        problems=problems,
    )


def _read_sdist(path: Path) -> RawMetadata | None:
    with tarfile.open(path) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if len(parts) == 2 and parts[1] == "PKG-INFO" and member.isfile():
                file = archive.extractfile(member)
                return None if file is None else parse_email(file.read(_METADATA_BYTES_MAX))[0]
    return None


def _read_member(wheel: zipfile.ZipFile, name: str) -> bytes:
    try:
        with wheel.open(name) as file:
            return file.read(_METADATA_BYTES_MAX)
    except KeyError:
        return b""


def _problems(path: Path, name: str, version: str, requires_python: str | None) -> list[str]:
    problems: list[str] = []
    if not name:
        problems.append("Name is missing")
    try:
        Version(version)
    except InvalidVersion:
        problems.append(f"Version {version!r} is not a version")
    try:
        SpecifierSet(requires_python or "")
    except InvalidSpecifier:
        problems.append(f"Requires-Python {requires_python!r} is not a specifier")
    try:
        file_name, file_version, _, _ = parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        return [*problems, str(error)]
    if name and file_name != canonicalize_name(name):
        problems.append(f"the file is named for {file_name}, the metadata for {name}")
    if not problems and file_version != Version(version):
        problems.append(f"the file is named for version {file_version}, the metadata for {version}")
    return problems


def _modules(names: list[str]) -> list[str]:
    """Top-level modules and packages: what an import of this distribution would name."""
    found: set[str] = set()
    for name in names:
        top, _, rest = name.partition("/")
        if top.endswith((".dist-info", ".data", ".libs")):
            continue
        if not rest and top.endswith((".py", ".so", ".pyd")):
            found.add(top.split(".")[0])
        elif rest.endswith((".py", ".so", ".pyd")):
            found.add(top)
    return sorted(module for module in found if module.isidentifier())


def _scripts(entry_points: str) -> list[str]:
    scripts: list[str] = []
    section = ""
    for line in entry_points.splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section == "[console_scripts]" and "=" in text:
            scripts.append(text.split("=")[0].strip())
    return sorted(scripts)
