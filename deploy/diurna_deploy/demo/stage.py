"""What every act of the demonstration has: the running stack, a folder of its own, and how to speak."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diurna_deploy.cli.api import Api
    from diurna_deploy.cli.session import Session
    from diurna_deploy.settings import Settings


@dataclass(frozen=True)
class Stage:
    """One run of the demonstration."""

    settings: Settings
    session: Session
    stack: dict[str, Any]

    @cached_property
    def api(self) -> Api:
        from diurna_deploy.cli.api import Api

        return Api(str(self.stack["api_url"]))

    @property
    def folder(self) -> Path:
        """Where repositories and releases of the demonstration lie."""
        return self.settings.state_dir / "demo"

    @property
    def is_ours(self) -> bool:
        """Whether nobody else lives in this stack: only then is something broken on purpose."""
        settings = self.settings
        return (
            not self.stack.get("joined") and settings.database_url is None and settings.kafka_bootstrap_servers is None
        )

    def pid_of(self, process: str) -> int:
        """The process of that name as it runs now, which a restart changes."""
        import asyncio

        from diurna_deploy.lifecycle import stack_status

        status = asyncio.run(stack_status(self.settings))
        return next(int(found["pid"]) for found in status["processes"] if found["name"] == process)

    def heading(self, text: str) -> None:
        self.session.say("")
        self.session.say(text, style="bold")
