"""The diagrams of the documents are drawn as their readers see them: from text, by mermaid, in a browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.chromium import chromium
from support.documents import ROOT, blocks
from support.npm import unpacked

MERMAID = "mermaid@11.12.0"
SHA512 = "ZudVx73BwrMJfCFmSSJT84y6u5brEoV8DOItdHomNLz32uBjNrelm7mg95X7g+C6UoQH/W6mBLGDEDv73JdxBg=="
DRAWN = [
    (document, block.notes, block.text)
    for document in sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    for block in blocks(document, "mermaid")
]
DRAW = """async ([name, text]) => {
    mermaid.initialize({startOnLoad: false});
    document.body.innerHTML = (await mermaid.render(name, text)).svg;
    return document.body.innerText;
}"""


async def test_every_diagram_is_drawn() -> None:
    assert len(DRAWN) >= 4
    try:
        script = unpacked(MERMAID, SHA512) / "package" / "dist" / "mermaid.min.js"
    except LookupError as error:
        pytest.skip(str(error))
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1200, "height": 900})
        await page.add_script_tag(path=script)
        with pytest.raises(Exception, match="Parse error"):  # a checker that sees a broken one first
            await page.evaluate(DRAW, ["broken", "graph TD; a -->"])
        for document, name, text in DRAWN:
            shown = await page.evaluate(DRAW, [name, text])
            assert len(shown.split()) > 3, (document, name)
            if pictures := os.environ.get("DIURNA_TEST_SCREENSHOTS"):
                await page.screenshot(path=Path(pictures) / f"diagram-{name}.png", full_page=True)
