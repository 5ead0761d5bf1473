"""A declared service of the infrastructure agent: it does nothing, and lives as long as its process does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class NapService:
    """Declared in a file under `nap`. Nothing starts it again but who is asked to."""

    def __init__(self, folder: Path, *, start_seconds: int = 3) -> None:
        self.mark = folder / "well"
        self.script = folder / "service.py"
        self.script.write_text("import time; time.sleep(3600)")
        self.file = folder / "services.toml"
        self._start_seconds = start_seconds
        self._declare("[]")

    def needs_mark(self) -> None:
        """From now on it is well while its process lives and `mark` is there: so it can be started, and not be well."""
        mark = f'{{ kind = "file_age", path = "{self.mark}", age_seconds_max = 3600 }}'
        self._declare(f'[{{ kind = "process" }}, {mark}]')

    def _declare(self, checks: str) -> None:
        self.file.write_text(
            f'[services.nap]\ncommand = ["{sys.executable}", "{self.script}"]\nrestart = "never"\n'
            f"start_seconds = {self._start_seconds}\nchecks = {checks}\n"
        )

    def ask(self, diurna: Any, task: str) -> dict[str, Any]:
        """Has the agent of the running stack do a task on it."""
        payload = json.dumps({"task": task, "service": "nap", "services_file": str(self.file)})
        answer = diurna.json("request", "send", "infrastructure", "execute_task", "--payload", payload)
        found: dict[str, Any] = answer["result"]
        return found
