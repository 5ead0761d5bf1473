"""A declared service of the infrastructure agent: it does nothing, and lives as long as its process does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class NapService:
    """Declared in a file under `nap`. Nothing starts it again but who is asked to."""

    def __init__(self, folder: Path, *, checks: str = "[]", start_seconds: int = 3) -> None:
        self.script = folder / "service.py"
        self.script.write_text("import time; time.sleep(3600)")
        self.file = folder / "services.toml"
        self.file.write_text(
            f'[services.nap]\ncommand = ["{sys.executable}", "{self.script}"]\nrestart = "never"\n'
            f"start_seconds = {start_seconds}\nchecks = {checks}\n"
        )

    def ask(self, diurna: Any, task: str) -> dict[str, Any]:
        """Has the agent of the running stack do a task on it."""
        payload = json.dumps({"task": task, "service": "nap", "services_file": str(self.file)})
        answer = diurna.json("request", "send", "infrastructure", "execute_task", "--payload", payload)
        found: dict[str, Any] = answer["result"]
        return found
