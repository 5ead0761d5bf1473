"""The pages over the whole application: what they show, what they let people do, and that no payload becomes markup."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest

from support.paged_seed import Seeded, seeded
from support.paged_team import HTML, OWN_URL, PagedTeam, listening, paged_team

pytestmark = pytest.mark.stack

HOSTILE = (
    "</script><script>hacked()</script>\"'><img src=x onerror=hacked()>"
    "{{ 7*7 }}</textarea></title><svg onload=hacked()>"
)
MARK = "'\"><img&src=x&onerror=hacked()>"
"""Ids are printable ASCII without spaces; one with a slash has no address of its own."""


@pytest.fixture(scope="module")
async def team(database_url: str) -> AsyncIterator[PagedTeam]:
    async with paged_team(database_url) as found:
        yield found


@pytest.fixture(scope="module")
async def hostile(team: PagedTeam) -> AsyncIterator[Seeded]:
    async with seeded(team, HOSTILE, mark=MARK) as found:
        yield found


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and the text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def dangers(self) -> list[str]:
        """What runs, or could: scripts that are not ours, handlers, foreign addresses."""
        found = [f"<{tag}>" for tag, _ in self.elements if tag in {"img", "iframe", "object", "embed", "style", "base"}]
        for tag, attributes in self.elements:
            if tag == "script" and not (attributes.get("src") or "").startswith("/static/"):
                found.append("<script>")
            for name, value in attributes.items():
                if name.startswith("on") or name in {"style", "srcdoc"}:
                    found.append(f"{tag} {name}")
                if name in {"href", "src", "action", "formaction"} and not (value or "").startswith(("/", "#")):
                    found.append(f"{tag} {name}={value}")
        return found


def test_the_checker_sees_a_page_that_is_broken_into() -> None:
    assert Elements('<p onclick="x()">').dangers == ["p onclick"]
    assert Elements('<a href="javascript:x()">').dangers == ["a href=javascript:x()"]
    assert {"<script>", "<img>", "img onerror", "svg onload"} <= set(Elements(f"<p>{HOSTILE}</p>").dangers)


async def test_no_payload_gets_out_of_its_text_on_any_page(team: PagedTeam, hostile: Seeded) -> None:
    told = 0
    for path in hostile.paths:
        page = Elements(await team.page(path))
        assert page.dangers == [], path
        told += HOSTILE in page.text
    assert told > 8, "the payloads are to be read on the pages, not left out"


async def test_no_payload_gets_out_of_the_query(team: PagedTeam, hostile: Seeded) -> None:
    for path in ("/requests", "/locks", "/events", "/workflows", "/agents", "/capabilities/search", "/nowhere"):
        names = ("q", "as_of", "cursor", "type", "subject", "resource_id", "correlation_id", "status", "capability")
        for name in names:
            response = await team.client.get(path, params={name: HOSTILE}, headers=HTML)
            assert response.headers["content-type"].startswith("text/html"), (path, name, response.status_code)
            assert Elements(response.text).dangers == [], (path, name)
    page = await team.page(f"/workflows/{quote(HOSTILE.replace('/', ''), safe='')}", 422)
    assert Elements(page).dangers == []


async def test_a_page_lets_nothing_run_but_its_own_files(team: PagedTeam) -> None:
    response = await team.client.get("/", headers=HTML)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    addresses = [one.get("src") or one.get("href") or "" for tag, one in Elements(response.text).elements
                 if tag in {"script", "link"}]  # fmt: skip
    assert len(addresses) == 4
    for address in addresses:
        file = await team.client.get(address)
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]
    assert (await team.client.get("/static/..%2fsite.py")).status_code == 404


async def test_who_asks_for_json_gets_json_at_the_same_address(team: PagedTeam, hostile: Seeded) -> None:
    for accept in ("application/json", "*/*", "application/problem+json", "text/html;q=0.1, application/json"):
        response = await team.client.get("/agents", headers={"accept": accept})
        assert response.headers["content-type"] == "application/json", accept
    assert "<h1>Team</h1>" in await team.page("/agents")
    assert "Vary" in (await team.client.get("/agents", headers=HTML)).headers


async def test_an_unknown_id_gives_a_page_that_says_what_to_do(team: PagedTeam, hostile: Seeded) -> None:
    for path in ("/agents/nobody", "/workflows/nothing", "/requests/nothing", "/locks/nothing", "/timeline/nothing",
                 "/events/agents.events:0:999999", "/no/such/page"):  # fmt: skip
        page = await team.page(path, 404)
        assert "What you can do" in page
        problem = await team.json(path, 404)
        assert problem["status"] == 404
    assert "a position is topic:partition:offset" in await team.page("/events/nonsense", 422)
    assert (await team.client.get("/metrics", headers=HTML)).headers["content-type"].startswith("text/plain")


async def test_an_approval_is_decided_on_a_page(team: PagedTeam, hostile: Seeded) -> None:
    workflow = f"/workflows/{quote(hostile.waiting_id, safe='')}"
    decide = f"/approvals/{hostile.approval_id}/approve"
    assert f'formaction="{decide}"' in await team.page(workflow)
    fields = {"decided_by": "alice", "reason": HOSTILE, "key": "once", "workflow_id": hostile.waiting_id}
    response = await team.submit(decide, **fields)
    again = await team.submit(decide, **fields)
    assert response.headers["location"] == again.headers["location"], "the same form twice is one decision"
    page = await team.page(response.headers["location"])
    assert "approved" in page
    assert "by alice" in page
    assert decide not in page
    refused = await team.client.post(decide, data={**fields, "key": "twice"}, headers={**HTML, "origin": OWN_URL})
    assert refused.status_code == 409
    assert "Something has changed in between" in refused.text


async def test_workflows_are_paused_cancelled_and_forked_on_a_page(team: PagedTeam, hostile: Seeded) -> None:
    workflow = f"/workflows/{quote(hostile.workflow_id, safe='')}"
    forked = await team.submit(f"{workflow}/fork", checkpoint_id=hostile.checkpoint_id, set='{"branch": "other"}')
    assert "running" in await team.page(forked.headers["location"])
    wrong = await team.submit(f"{workflow}/fork", 422, checkpoint_id=hostile.checkpoint_id, set="{")
    assert "a JSON object is expected" in wrong.text
    for verb, who, status in (("pause", "paused_by", "paused"), ("resume", "resumed_by", "running"),
                              ("cancel", "cancelled_by", "cancelled")):  # fmt: skip
        done = await team.submit(f"{workflow}/{verb}", **{who: "alice", "reason": "to see it"})
        page = await team.page(done.headers["location"])
        assert f"The workflow is {status}" in page
    assert "Cancel workflow" not in page, "what is over cannot be cancelled"


async def test_a_lock_is_taken_away_on_a_page(team: PagedTeam, hostile: Seeded) -> None:
    done = await team.submit(
        "/locks/force-release", resource_id=hostile.resource_id, admin_agent_id="alice", reason="stuck"
    )
    assert "force released" in await team.page(done.headers["location"])
    unsaid = await team.submit("/locks/force-release", 422, resource_id=hostile.resource_id, admin_agent_id="alice")
    assert "reason" in unsaid.text


async def test_a_page_of_another_site_cannot_write(team: PagedTeam, hostile: Seeded) -> None:
    path = f"/workflows/{quote(hostile.over_id, safe='')}/cancel"
    form = {"cancelled_by": "mallory"}
    for headers in (
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": OWN_URL, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        response = await team.client.post(path, data=form, headers={**HTML, **headers})
        assert response.status_code == 403, headers
        assert response.json()["code"] == "other_site"
    # A form of another site may also pretend to be text that happens to be JSON.
    text = {"content-type": "text/plain", "origin": "https://evil.example"}
    assert (await team.client.post("/events", content='{"event_type":"x.y"}', headers=text)).status_code == 403
    assert (await team.client.post("/events", content='{"event_type":"x.y"}')).status_code == 201


async def test_forms_are_bounded(team: PagedTeam, hostile: Seeded) -> None:
    path = f"/workflows/{quote(hostile.over_id, safe='')}/cancel"
    assert "Too large" in (await team.submit(path, 413, reason="x" * 70_000)).text
    assert "cannot be read" in (await team.submit(path, 422, **{f"field{n}": "x" for n in range(30)})).text


async def test_the_slider_shows_the_past_and_lets_nothing_be_changed(team: PagedTeam, hostile: Seeded) -> None:
    events = await team.json("/events", limit=1000)
    created = next(one for one in events if one["type"] == "workflow.created")
    workflow = f"/workflows/{quote(created['subject'], safe='')}"
    page = await team.page(workflow, as_of=created["position"])
    assert "This is how it was" in page
    assert "workflow.step_changed" not in page
    assert '<form method="post"' not in page
    assert "data-stream" not in page
    first = await team.page("/", as_of=str(int(time.time() * 1000)))
    assert "This is how it was" in first
    assert "as_of" in (await team.page("/agents", 422, as_of="yesterday"))


async def test_one_event_shows_its_causes_and_effects(team: PagedTeam, hostile: Seeded) -> None:
    events = await team.json("/events", correlation_id=hostile.correlation_id)
    dispatched = next(one for one in events if one["type"] == "request.dispatched")
    page = Elements(await team.page(f"/events/{dispatched['position']}")).text
    causes, effects = page.index("Causes"), page.index("Effects")
    assert dispatched["causation_id"] in page
    assert "request.completed" in page[effects:]
    assert causes < page.index("request.submitted", causes) < effects


async def test_a_page_that_fails_says_so(team: PagedTeam, hostile: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("diurna_deploy.pages.workflows.graph.drawn", broken)
    transport = httpx.ASGITransport(team.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OWN_URL) as client:
        response = await client.get(f"/workflows/{quote(hostile.over_id, safe='')}", headers=HTML)
    assert response.status_code == 500
    assert "What you can do" in response.text
    assert "ZeroDivisionError" not in response.text


async def test_one_event_is_read_by_its_position(team: PagedTeam, hostile: Seeded) -> None:
    listed = (await team.json("/events", limit=1))[0]
    assert await team.json(f"/events/{listed['position']}") == listed
    for position in ("agents.events:6:0", "agents.events:0:999999999999999999", "nothing.events:0:0"):
        assert (await team.json(f"/events/{position}", 404))["code"] == "not_found"


async def test_a_stream_can_leave_the_types_to_the_data(team: PagedTeam, hostile: Seeded) -> None:
    async def first_lines(address: str, **parameters: str) -> list[str]:
        async with (
            httpx.AsyncClient(base_url=address, timeout=10) as client,
            client.stream(
                "GET", "/events/stream", params={"type": "page.unnamed", "after": after, **parameters}
            ) as told,
        ):
            lines: list[str] = []
            async for line in told.aiter_lines():
                lines.append(line.partition(":")[0])
                if line.startswith("data:"):
                    return lines
        raise AssertionError("the stream ended")

    after = ",".join(f"{topic}.events:0:0" for topic in ("agents", "locks"))
    await team.client.post("/events", json={"event_type": "page.unnamed"})
    async with listening(team.app) as address:
        assert "event" in await first_lines(address)
        assert "event" not in await first_lines(address, unnamed="true")


async def test_lists_go_on_where_a_page_ends(team: PagedTeam, hostile: Seeded) -> None:
    for number in range(55):
        await team.client.post("/events", json={"event_type": "page.filled", "data": {"number": number}})
    seen: list[str] = []
    path: str | None = "/events?type=page.filled"
    await team.write("POST", "/events", {"event_type": "page.filled"})
    while path is not None:
        found = Elements(await team.page(path)).elements
        addresses = [one.get("href") or "" for tag, one in found if tag == "a"]
        seen += [one for one in addresses if one.startswith("/events/broadcasts")]
        path = next((one for one in addresses if "cursor=" in one), None)
    assert len(set(seen)) == len(seen) == 56


async def test_the_topics_are_rendered_from_the_asyncapi_document(team: PagedTeam) -> None:
    document = await team.json("/asyncapi.json")
    page = await team.page("/asyncapi")
    for topic in document["channels"]:
        assert f'id="{topic}"' in page
    for message in document["components"]["messages"].values():
        assert message["title"] in page


async def test_a_rebuild_is_started_and_followed_on_a_page(team: PagedTeam, hostile: Seeded) -> None:
    async def ended(job: httpx.Response) -> dict[str, object]:
        async with asyncio.timeout(30):
            while True:
                found = await team.json(job.headers["location"])
                if found["status"] != "running":
                    return dict(found)
                await asyncio.sleep(0.02)

    assert "rebuild the tables first" in str(
        (await ended(await team.client.post("/projections/diurna/verify")))["error"]
    )
    done = await team.submit("/projections/diurna/rebuild")
    assert done.headers["location"] == "/projections"
    busy = await team.client.post("/projections/diurna/rebuild")
    assert busy.status_code in {202, 409}
    newest = (await team.json("/projections/jobs"))[0]
    rebuilt = await ended(httpx.Response(202, headers={"location": f"/projections/jobs/{newest['id']}"}))
    assert rebuilt["status"] == "completed", rebuilt
    verified = await ended(await team.client.post("/projections/diurna/verify", headers={"idempotency-key": "v"}))
    assert verified["status"] == "completed", verified
    assert verified["different"] == []
    again = await team.client.post("/projections/diurna/verify", headers={"idempotency-key": "v"})
    assert again.json()["id"] == verified["id"], "the same key is the same job"
    page = await team.page("/projections", checksums="1")
    assert "All tables are equal" in page
    assert (await team.json("/projections", checksums="true"))[0]["checksums"]["events"] in page
    assert (await team.client.post("/projections/other/rebuild")).status_code == 404
    assert (await team.json("/projections/jobs/nothing", 404))["status"] == 404
