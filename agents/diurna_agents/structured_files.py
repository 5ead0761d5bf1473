"""Configuration files as documents: JSON, TOML and YAML, read with bounds, written with their comments kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import tomlkit
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from tomlkit.exceptions import TOMLKitError

from diurna_schemas.errors import InvalidInput, TooLarge

Format = Literal["json", "toml", "yaml"]
BYTES_MAX: Final = 4 * 1024 * 1024
_SUFFIXES: Final[dict[str, Format]] = {".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


@dataclass(slots=True)
class Document:
    """A file's content. `root` is what the format's library made of it, comments and all; it may be changed."""

    format: Format
    raw: bytes
    root: Any
    indent: int | str | None = None

    @property
    def plain(self) -> Mapping[str, Any]:
        """The content as plain values."""
        return cast("Mapping[str, Any]", plain(self.root))

    def dumped(self) -> bytes:
        """The content as the file would hold it now."""
        match self.format:
            case "json":
                return (json.dumps(self.root, indent=self.indent, ensure_ascii=False) + "\n").encode()
            case "toml":
                return tomlkit.dumps(self.root).encode()
            case "yaml":
                stream = io.BytesIO()
                yaml: Any = _yaml()
                yaml.dump(self.root, stream)
                return stream.getvalue()


def format_of(path: Path, field: str = "file") -> Format:
    """The format a file's name tells. Raises `InvalidInput`."""
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise InvalidInput(field, str(path), f"its name must end in one of {', '.join(_SUFFIXES)}")
    return found


def read_document(field: str, path: Path, format: Format | None = None) -> Document:  # noqa: A002 - the field's word
    """The file as a document with names at its root. Raises `InvalidInput` naming `field`, `TooLarge`."""
    try:
        size = path.stat().st_size
        if size > BYTES_MAX:
            raise TooLarge(field, size, BYTES_MAX)
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(field, str(path), f"cannot be read: {error.strerror}") from error
    return parsed(field, str(path), raw, format or format_of(path, field))


def parsed(field: str, name: str, raw: bytes, format: Format) -> Document:  # noqa: A002
    """Bytes as a document. Raises `InvalidInput` naming `field` and where it breaks."""
    readers: dict[str, Callable[[str], Any]] = {"json": json.loads, "toml": tomlkit.parse, "yaml": _read_yaml}
    try:
        text = raw.decode("utf-8")
        root = readers[format](text)
    except (ValueError, TOMLKitError, YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())[:300]
        raise InvalidInput(field, name, f"it is no {format.upper()}: {said}") from error
    if root is None and format == "yaml":
        root = {}
    if not isinstance(root, dict):
        kind = type(cast("object", root)).__name__
        raise InvalidInput(field, name, f"names with values are needed at its root, not a {kind}")
    return Document(format, raw, cast("Any", root), _indent_of(text) if format == "json" else None)


def plain(value: Any) -> Any:
    """A value of any of the libraries as dicts, lists and scalars."""
    unwrap: Any = getattr(value, "unwrap", None)
    if callable(unwrap):
        value = unwrap()
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {str(name): plain(found) for name, found in fields.items()}
    if isinstance(value, list | tuple):
        return [plain(found) for found in cast("list[Any]", value)]
    for kind in (bool, int, float, str):
        # ruamel has kinds of its own, which remember how a value was written.
        if isinstance(value, kind):
            return kind(value)
    return value


def _read_yaml(text: str) -> Any:
    yaml: Any = _yaml()
    return yaml.load(text)


def _yaml() -> YAML:
    # The round-trip loader constructs no objects: like the safe one, with comments.
    found = YAML(typ="rt")
    found.preserve_quotes = True
    found.width = 4096
    return found


def _indent_of(text: str) -> int | str | None:
    """How a JSON file is indented, so that it stays so."""
    for line in text.splitlines()[1:]:
        inner = line[: len(line) - len(line.lstrip())]
        if inner:
            return inner if "\t" in inner else len(inner)
    return None if "\n" not in text.strip() else 2
