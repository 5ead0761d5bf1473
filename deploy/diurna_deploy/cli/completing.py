"""What a shell offers when somebody presses the tab key: the ids there are, asked of the running API."""

from __future__ import annotations

from collections.abc import Callable

import typer

from diurna_deploy.cli.session import Session

IDS_MAX = 200


def ids(path: str, field: str) -> Callable[[typer.Context, str], list[str]]:
    """Completes an argument with this field of what a list of the API holds; with nothing where nobody answers."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        session = Session(state_dir=ctx.params.get("state_dir"), given_api_url=ctx.params.get("api_url"))
        try:
            rows = session.api.get(path, limit=IDS_MAX)
            found = {str(row[field]) for row in rows}
        except Exception:  # a shell in the middle of a line is no place for errors
            return []
        return sorted(one for one in found if one.startswith(incomplete))

    return complete


def words(*known: str) -> Callable[[str], list[str]]:
    """Completes with words that are known beforehand."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete
