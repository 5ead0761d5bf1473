"""The command line: `diurna NOUN VERB`, and how its errors become words and exit codes."""

from __future__ import annotations

import json
import sys
from typing import Final, NoReturn

REFUSED: Final = 1
"""The answer was no, or what was asked for failed truthfully."""
USAGE: Final = 2
"""The command line itself is wrong."""
UNAVAILABLE: Final = 3
"""A part did not answer; whether anything happened is unknown."""
_INTERRUPTED: Final = 130


def main() -> NoReturn:
    """Runs the command of `sys.argv` and exits with its code."""
    # httpx brings a command line of its own, and loads all that it is made of: a tenth of a second of each of ours.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    from diurna_deploy.cli.app import app  # the first thing that costs time

    sys.exit(run(app))


def run(app: object) -> int:
    """Runs an app and returns its exit code; every error of ours becomes one line and a code."""
    from diurna_schemas.errors import DiurnaError, Refused

    try:
        app()  # type: ignore[operator]
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else USAGE if exit_.code else 0
    except Refused as error:
        return _told(error.code, str(error), REFUSED)
    except DiurnaError as error:
        return _told("unavailable", str(error), UNAVAILABLE)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _told(code: str, message: str, exit_code: int) -> int:
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": code, "message": message}}), file=sys.stderr)
    else:
        print(f"diurna: {message}", file=sys.stderr)
    return exit_code
