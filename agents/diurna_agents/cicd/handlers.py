"""The request types the cicd agent answers."""

from __future__ import annotations

from typing import Final

from diurna_agents.cicd.pipeline import run_pipeline
from diurna_agents.cicd.validation import validate_build

HANDLERS: Final = {"run_pipeline": run_pipeline, "validate_build": validate_build}
