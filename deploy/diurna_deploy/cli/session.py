"""What every command has: where the API is, how to print, and the options that say so."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from diurna_deploy.cli.api import Api

Row = Mapping[str, Any]

_GAP: Final = 2
_WIDTH_MIN: Final = 8
_STATUSES: Final = frozenset({"status", "state"})
STATUS_STYLES: Final = {
    **dict.fromkeys(("active", "idle", "running", "completed", "success", "held", "approved"), "green"),
    **dict.fromkeys(("busy", "queued", "pending", "paused", "waiting", "dispatched", "partial", "open"), "yellow"),
    **dict.fromkeys(
        ("stale", "offline", "failed", "error", "timeout", "timed_out", "rejected", "given_up", "dead_lettered"), "red"
    ),
    **dict.fromkeys(("cancelled", "stopped", "expired", "closed", "released"), "dim"),
}
"""On a terminal alone; rich leaves colours out where the output is piped, or `NO_COLOR` is set."""


@dataclass(frozen=True)
class Session:
    """One run of one command."""

    as_json: bool = False
    state_dir: Path | None = None
    given_api_url: str | None = None
    as_of: str | None = None

    @cached_property
    def api(self) -> Api:
        """The HTTP API. Raises `Unavailable` where nobody said where it is."""
        from diurna.settings import STATE_DIR, api_url
        from diurna_deploy.cli.api import Api

        if self.given_api_url is not None:
            return Api(self.given_api_url.rstrip("/"), as_of=self.as_of)
        environment = None if self.state_dir is None else {STATE_DIR: str(self.state_dir)}
        return Api(api_url(environment), as_of=self.as_of)

    @cached_property
    def console(self) -> Console:
        """The terminal, or whatever stands in its place; colours only where somebody sees them."""
        from rich.console import Console

        # Without emoji: an id such as `job:x:1` is to be shown as it is.
        return Console(highlight=False, soft_wrap=True, emoji=False)

    def show(self, value: object, words: Callable[[], object] | None = None) -> None:
        """Prints a value: as JSON where that was asked for, else by `words`."""
        if self.as_json or words is None:
            print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
        else:
            words()

    def say(self, text: str, *, style: str | None = None) -> None:
        """Prints a line for people; with `--json` it goes to the error output, so that JSON stays alone."""
        if self.as_json:
            print(text, file=sys.stderr, flush=True)
        else:
            self.console.print(text, style=style, markup=False)

    def lines(self, lines: Iterable[str]) -> None:
        """Prints several lines for people."""
        for text in lines:
            self.say(text)

    def rows(self, rows: Sequence[Row], columns: Iterable[str], *, nothing: str) -> None:
        """Prints rows under headings, or `nothing` where there are none."""
        names = list(columns)
        if self.as_json:
            self.show(list(rows))
        elif not rows:
            self.say(nothing)
        else:
            cells = [[_cell(row.get(name)) for name in names] for row in rows]
            widths = [max(len(line[at]) for line in [names, *cells]) for at in range(len(names))]
            if self.console.is_terminal:
                widths = _fitting(widths, self.console.width)
            self.say(_aligned(names, widths), style="bold")
            for line in cells:
                self._line(names, line, widths)

    def _line(self, names: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> None:
        from rich.text import Text

        line = Text()
        for name, cell in zip(names, _padded(cells, widths), strict=True):
            line.append(cell, _style_of(name, cell.strip()))
        line.rstrip()
        self.console.print(line)

    def fields(self, value: Row) -> None:
        """Prints one thing, a field a line."""
        if self.as_json:
            self.show(dict(value))
            return
        width = max((len(name) for name in value), default=0)
        for name, found in value.items():
            self.say(f"{name.ljust(width)}  {_cell(found)}")


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(_padded(cells, widths)).rstrip()


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The cells, each as wide as its column and two blanks; what does not fit is cut off."""
    return [
        (cell if len(cell) <= width else f"{cell[: width - 1]}…").ljust(width + _GAP)
        for cell, width in zip(cells, widths, strict=True)
    ]


def _fitting(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit into a terminal, the widest columns made narrower; never the first, which holds the id."""
    fitting = list(widths)
    while sum(fitting) + _GAP * (len(fitting) - 1) > room:
        widest = max(range(1, len(fitting)), key=fitting.__getitem__, default=0)
        if widest == 0 or fitting[widest] <= _WIDTH_MIN:
            break
        fitting[widest] -= 1
    return fitting


def _style_of(column: str, cell: str) -> str:
    return STATUS_STYLES.get(cell, "") if column in _STATUSES else ""


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case list() if all(isinstance(item, str) for item in value):  # pyright: ignore[reportUnknownVariableType]
            return ", ".join(value)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object an option holds; `@FILE` reads it from a file, `-` from the input.

    Raises `BadParameter`, a usage error, where it is none.
    """
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(f"{option}: {text} cannot be read: {error.strerror}") from error
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: not JSON ({error}), got {text[:80]!r}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{option}: a JSON object is needed, got {text[:80]!r}")
    return cast("dict[str, Any]", found)


_COMMON = (
    inspect.Parameter(
        "as_json",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Everywhere")],
    ),
    inspect.Parameter(
        "state_dir",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option(
                "--state-dir",
                help="Where the embedded stack keeps its state [default: DIURNA_STATE_DIR, else the user's].",
                rich_help_panel="Everywhere",
            ),
        ],
    ),
    inspect.Parameter(
        "api_url",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            str | None,
            typer.Option(
                "--api-url",
                help="The API to speak to [default: DIURNA_API_URL, else the running stack's].",
                rich_help_panel="Everywhere",
            ),
        ],
    ),
)


_AS_OF = inspect.Parameter(
    "as_of",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option("--as-of", help="As things were: an ISO 8601 time, or the position of an event."),
    ],
)


def group(help_text: str) -> typer.Typer:
    """A noun: a group of verbs."""
    return typer.Typer(help=help_text, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def command(
    app: typer.Typer, name: str, *, has_past: bool = False, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command. Its first argument is the `Session`; the options of every command are added.

    One that only reads may have a past: then it takes `--as-of`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]

        def run(**given: Any) -> None:
            as_of = given.pop("as_of") if has_past else None
            session = Session(given.pop("as_json"), given.pop("state_dir"), given.pop("api_url"), as_of)
            function(session, **given)

        parameters = [*own[1:], *((_AS_OF,) if has_past else ()), *_COMMON]
        run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = function.__doc__
        run.__name__ = function.__name__
        app.command(name, **settings)(run)
        return function

    return decorate
