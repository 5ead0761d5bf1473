"""One replay in a process of its own: `python -m diurna_deploy.replay_process rebuild|verify|promote`.

It prints a line of JSON whenever it got further, and what came of it as the last one. The server starts it, so that the
reads do not wait for the rebuild.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal

import orjson

from diurna_deploy.replays import replaying
from diurna_schemas.errors import DiurnaError
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.rebuild import Replay

Kind = Literal["rebuild", "verify", "promote"]
KINDS: Final[tuple[Kind, ...]] = ("rebuild", "verify", "promote")
_EVERY_SECONDS: Final = 0.2


def main(arguments: list[str]) -> int:
    """Runs it, and returns the exit code."""
    kind: Kind | None = next((one for one in KINDS if arguments == [one]), None)
    if kind is None:
        print(f"one of {', '.join(KINDS)} is expected, got {arguments}", file=sys.stderr)
        return 2
    try:
        outcome = asyncio.run(replayed(kind, _tell, replaying(None)))
    except DiurnaError as error:
        _tell({"error": str(error)})
        return 1
    _tell({"outcome": outcome})
    return 0


async def replayed(
    kind: Kind, tell: Callable[[dict[str, Any]], None], opening: AbstractAsyncContextManager[Replay]
) -> dict[str, Any]:
    """Does it on what is opened, tells how far it is now and then, and returns what came of it."""
    told_at = 0.0

    def say(progress: Progress) -> None:
        tell({"done": progress.done, "total": progress.total, "per_second": round(progress.per_second, 1)})

    def show(progress: Progress) -> None:
        nonlocal told_at
        if (now := time.monotonic()) - told_at >= _EVERY_SECONDS:
            told_at = now
            say(progress)

    async with opening as replay:
        progress = Progress(show)
        if kind == "rebuild":
            outcome: dict[str, Any] = {"checksums": (await replay.rebuild(progress)).tables}
        else:
            found = await (replay.verify(progress) if kind == "verify" else replay.promote(progress))
            outcome = {"checksums": dict(found.made), "different": found.different}
        say(progress)
        return {"schema": replay.schema, **outcome}


def _tell(what: dict[str, Any]) -> None:
    print(orjson.dumps(what).decode(), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
