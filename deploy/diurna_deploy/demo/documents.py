"""The documents of the repository: three made side by side, put together as one site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diurna_deploy.following import end_of, follow_workflow
from diurna_deploy.narration import progress

if TYPE_CHECKING:
    from diurna_deploy.demo.deployment import Subject
    from diurna_deploy.demo.stage import Stage


def document(stage: Stage, subject: Subject) -> dict[str, Any]:
    """Has the repository documented, and shows the index of what was made."""
    site = stage.folder / f"site-{Path(subject.repo).name}"
    stage.heading(f"Documenting {subject.head} of {subject.repo}: three documents side by side, then one site")
    given = {"repo": subject.repo, "head": subject.head, "site": str(site)}
    started = stage.api.post("/workflows", {"workflow_type": "parallel_docs", "input": given})
    follow_workflow(stage.api, started, tell=lambda event: stage.session.say(f"  {progress(event)}"))
    end = end_of(stage.api, started)
    if end.is_success:
        index = Path(end.final_result["index"])
        stage.session.say(f"  {index} says")
        stage.session.lines(f"    {line}" for line in index.read_text(encoding="utf-8").splitlines() if line)
    stage.session.say(f"  {end.in_words()}", style="green" if end.is_success else "bold red")
    return end.as_json()
