"""The graphs of the known workflows, as those who only draw them need them: LangGraph itself takes a second to load."""

from __future__ import annotations

from typing import Final

OUTLINES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "pr_deployment": (
        ("plan", "review"),
        ("review", "test"),
        ("test", "approval"),
        ("approval", "deploy"),
        ("deploy", "finish"),
        ("review", "finish"),
        ("test", "finish"),
        ("plan", "finish"),
        ("approval", "finish"),
    )
}
"""Which step may follow which; held equal to the graphs themselves by a test."""
