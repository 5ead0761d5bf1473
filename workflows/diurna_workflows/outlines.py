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
    ),
    "parallel_docs": (
        ("plan", "api_docs"),
        ("plan", "user_guide"),
        ("plan", "deployment_guide"),
        ("api_docs", "merge"),
        ("user_guide", "merge"),
        ("deployment_guide", "merge"),
        ("merge", "finish"),
        ("plan", "finish"),
    ),
    "self_healing": (
        ("plan", "detect"),
        ("detect", "diagnose_infrastructure"),
        ("detect", "diagnose_cicd"),
        ("detect", "diagnose_code_review"),
        ("diagnose_infrastructure", "vote"),
        ("diagnose_cicd", "vote"),
        ("diagnose_code_review", "vote"),
        ("vote", "fix"),
        ("fix", "verify"),
        ("vote", "verify"),
        ("verify", "wait"),
        ("verify", "escalate"),
        ("vote", "escalate"),
        ("detect", "wait"),
        ("detect", "escalate"),
        ("verify", "finish"),
        ("escalate", "finish"),
        ("detect", "finish"),
        ("plan", "finish"),
        ("wait", "detect"),
        ("escalate", "detect"),
    ),
}
"""Which step may follow which; held equal to the graphs themselves by a test."""
