"""What every read has alike: waiting for positions, saying positions, pages."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response

from diurna_projections.documents import Document
from diurna_projections.found import Found, Page
from diurna_projections.paging import LIMIT, LIMIT_MAX
from diurna_projections.queries import Queries
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Position

POSITIONS_HEADER: Final = "Diurna-Positions"
WAIT_SECONDS_MAX: Final = 10.0
_JSON: Final = "application/json"
_MIN_POSITION: Final = b"min_position"


async def wait_for_positions(request: Request, queries: Queries) -> None:
    """Waits until the tables hold every `min_position` of the request. Raises `TimedOut` after ten seconds."""
    if _MIN_POSITION not in request.scope["query_string"]:
        return
    texts = [text for item in request.query_params.getlist("min_position") for text in item.split(",")]
    positions = [Position.parse(text, field="min_position") for text in texts]
    await queries.wait(positions, seconds=WAIT_SECONDS_MAX)


def json_answer(found: Found) -> Response:
    """JSON, and the positions it is true at."""
    return Response(found.body, media_type=_JSON, headers={POSITIONS_HEADER: found.positions})


def document_answer(document: Document, positions: str) -> Response:
    """One document, and the positions it is true at."""
    return json_answer(Found(orjson.dumps(document), positions))


def page_answer(request: Request, found: Found | Page) -> Response:
    """A JSON array, the positions it is true at, and a link to the next page where there is one."""
    whole = found.found if isinstance(found, Page) else found
    answer = json_answer(whole)
    if whole.cursor is not None:
        kept = [(name, value) for name, value in parse_qsl(request.url.query) if name != "cursor"]
        query = urlencode([*kept, ("cursor", whole.cursor)])
        answer.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return answer


def limit_of(request: Request) -> int:
    """The `limit` of a request. Raises `InvalidInput` where it is none."""
    text = request.query_params.get("limit")
    if text is None:
        return LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LIMIT_MAX):
        raise InvalidInput("limit", text, f"a whole number from 1 to {LIMIT_MAX} is expected")
    return int(text)
