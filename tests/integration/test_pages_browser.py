"""The pages in a real Chromium, under a live stream of events: seen, heard, typed into, and attacked.

`DIURNA_TEST_SCREENSHOTS` names a folder that pictures of every page go to.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from support.chromium import chromium
from support.paged_seed import Seeded, seeded
from support.paged_team import PagedTeam, listening, paged_team

pytestmark = pytest.mark.stack

HOSTILE = "</script><script>hacked()</script>\"'><img src=x onerror=hacked()><svg onload=hacked()>"
MARK = "'\"><img&src=x&onerror=hacked()>"
expect.set_options(timeout=20_000)
TRAP = "window.hacked = () => { window.wasHacked = true; }"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest.fixture(scope="module")
async def team(browser: Browser, database_url: str) -> AsyncIterator[PagedTeam]:
    async with paged_team(database_url) as found:
        yield found


@pytest.fixture(scope="module")
async def hostile(team: PagedTeam) -> AsyncIterator[Seeded]:
    async with seeded(team, HOSTILE, mark=MARK) as found:
        yield found


@pytest.fixture(scope="module")
async def site(team: PagedTeam) -> AsyncIterator[str]:
    async with listening(team.app) as address:
        yield address


@asynccontextmanager
async def opened(browser: Browser, site: str, **options: object) -> AsyncGenerator[Page]:
    """A page whose every complaint is a failure: errors, what the policy stopped, and payloads that ran."""
    context = await browser.new_context(base_url=site, **options)  # type: ignore[arg-type]
    complaints: list[str] = []
    await context.add_init_script(TRAP)
    page = await context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.set_default_timeout(20_000)
    try:
        yield page
        if options.get("java_script_enabled", True):
            assert await page.evaluate("window.wasHacked") is None
        assert complaints == []
    finally:
        await context.close()


async def judged(page: Page, name: str) -> None:
    """Fails where a page is wider than the window, or not for everybody; takes its picture where that is wanted."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
    if folder := os.environ.get("DIURNA_TEST_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    found = (await Axe().run(page)).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], name


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
async def test_every_page_is_for_everybody_and_runs_nothing_it_was_told(
    browser: Browser, site: str, hostile: Seeded, scheme: str, width: int
) -> None:
    async with opened(browser, site, color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        for path in hostile.one_of_each:
            await page.goto(path)
            name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")[:60] or "overview"
            await judged(page, f"{name}-{scheme}-{width}")
            assert await page.evaluate("document.images.length") == 0
        await page.goto(f"/agents?as_of={10**13}")
        await judged(page, f"past-{scheme}-{width}")


async def test_the_checker_notices_what_is_not_for_everybody(browser: Browser, site: str) -> None:
    async with opened(browser, site) as page:
        await page.goto("/agents")
        await page.evaluate("document.querySelector('main').append(document.createElement('input'))")
        with pytest.raises(AssertionError, match="label"):
            await judged(page, "broken")


async def test_the_tail_shows_what_happens_while_it_happens(
    browser: Browser, team: PagedTeam, site: str, hostile: Seeded
) -> None:
    async with opened(browser, site) as page:
        await page.goto("/events?type=page.streamed")
        await expect(page.get_by_text("Waiting for events")).to_be_visible()
        for number in range(120):
            body = {"event_type": "page.streamed", "source": "cicd", "data": {"number": number, "text": HOSTILE}}
            await team.client.post("/events", json=body)
        await expect(page.locator("#tail tr")).to_have_count(120)
        positions = await page.locator("#tail tr td:nth-child(4)").all_text_contents()
        offsets = [int(text.rpartition(":")[2]) for text in positions]
        assert offsets == sorted(offsets, reverse=True), "the newest first, none twice, none missing"
        assert len(set(offsets)) == 120
        await expect(page.locator("#said")).to_have_text(re.compile(r"\d+ new events"))
        toggle = page.get_by_role("button", name="Live")
        await toggle.click()
        await expect(toggle).to_have_attribute("aria-pressed", "false")
        await team.client.post("/events", json={"event_type": "page.streamed"})
        await expect(page.get_by_text("1 held back")).to_be_visible()
        await expect(page.locator("#tail tr")).to_have_count(120)
        await toggle.click()
        await expect(page.locator("#tail tr")).to_have_count(121)
        await page.locator("#tail a").first.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("page.streamed")


async def test_nothing_is_missed_between_the_page_and_its_stream(
    browser: Browser, team: PagedTeam, site: str, hostile: Seeded
) -> None:
    async with opened(browser, site) as page:

        async def late(route: object) -> None:
            await team.client.post("/events", json={"event_type": "page.between"})
            await route.continue_()  # type: ignore[attr-defined]

        await page.route("**/events/stream**", late)
        await page.goto("/events?type=page.between")
        await expect(page.locator("#tail tr")).to_have_count(1)


async def test_the_graph_moves_with_the_workflow_and_words_that_are_typed_stay(
    browser: Browser, team: PagedTeam, site: str, hostile: Seeded
) -> None:
    workflow = f"/workflows/{quote(hostile.waiting_id, safe='')}"
    async with opened(browser, site) as page:
        await page.goto(workflow)
        await expect(page.locator(".graph__node--waiting")).to_contain_text("approval")
        name = page.get_by_label("Your name").first
        reason = page.get_by_label("Reason").first
        await reason.fill("half a sent")
        await team.write("POST", f"{workflow}/steps", {"step": "test"})
        await team.write("POST", f"{workflow}/steps", {"step": "approval"})
        await reason.press_sequentially("ence")
        await expect(reason).to_have_value("half a sentence")
        await name.fill("alice")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("by alice: half a sentence")).to_be_visible()
        await expect(page.locator(".graph__node--current")).to_contain_text("approval")
        await page.evaluate("window.isTheSame = true")
        await team.write("POST", f"{workflow}/steps", {"step": "deploy", "agent_id": "cicd"})
        await expect(page.locator(".graph__node--current")).to_contain_text("deploy")
        await expect(page.locator("#said")).to_have_text("The workflow is running at deploy")
        assert await page.evaluate("window.isTheSame"), "the page was not loaded again"
        await expect(page.get_by_label("Your name").first).to_have_value("alice")


async def test_everything_can_be_done_with_the_keyboard(browser: Browser, site: str, hostile: Seeded) -> None:
    async with opened(browser, site) as page:
        await page.goto("/locks")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        slider = page.get_by_role("slider")
        await slider.focus()
        await page.keyboard.press("Home")
        assert await slider.get_attribute("aria-valuetext") != "now"
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("This is how it was")).to_be_visible()
        await expect(page.get_by_text("Nothing is locked.")).to_be_visible()
        await page.get_by_role("link", name="Back to now").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name=hostile.resource_id).first).to_be_visible()


async def test_without_scripts_every_page_still_works(browser: Browser, site: str, hostile: Seeded) -> None:
    workflow = f"/workflows/{quote(hostile.workflow_id, safe='')}"
    async with opened(browser, site, java_script_enabled=False) as page:
        await page.goto(workflow)
        await page.locator("#form-pause").get_by_label("Your name").fill("bob")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("paused")
        await page.goto("/locks")
        await page.get_by_role("button", name="Go there").click()
        await expect(page.get_by_text("This is how it was")).to_be_visible()
