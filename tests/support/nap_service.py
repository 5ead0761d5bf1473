"""A declared service of the infrastructure agent: it does nothing, and lives as long as its process does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class NapService:
    """Declared in a file under `nap`. Nothing starts it again but who is asked to.

    One `with_mark` is well while its process lives and `mark` is there: so it can be started, and not be well.
    """

    def __init__(self, folder: Path, *, with_mark: bool = False, start_seconds: int = 3) -> None:
        self.mark = folder / "well"
        process = '{ kind = "process" }'
        mark = f'{{ kind = "file_age", path = "{self.mark}", age_seconds_max = 3600 }}'
        checks = f"[{process}, {mark}]" if with_mark else "[]"
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
