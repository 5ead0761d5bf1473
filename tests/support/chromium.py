"""A real Chromium for tests: the machine's own, driven over its debugging port."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable() -> str | None:
    """`DIURNA_TEST_CHROMIUM`, else what is on the path."""
    found = os.environ.get("DIURNA_TEST_CHROMIUM")
    return found or next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """The browser, for as long as the block lasts; skips where there is none."""
    path = executable()
    if path is None:
        pytest.skip("there is no Chromium: install your system's, or name one in DIURNA_TEST_CHROMIUM")
    async with async_playwright() as driver:
        # Chromium refuses to sandbox itself for root, as whom containers run tests.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await driver.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()
