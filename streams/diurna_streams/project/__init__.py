"""From the log to the tables: Faust for the live events, a bulk path for what lies behind."""

from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.projector import run_projector

__all__ = ["ProjectorOptions", "run_projector"]
