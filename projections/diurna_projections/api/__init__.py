"""The reads over HTTP."""

from diurna_projections.api.as_of import AsOf
from diurna_projections.api.hot import HotReads
from diurna_projections.api.problems import install_problems, problem_response
from diurna_projections.api.router import read_router

__all__ = ["AsOf", "HotReads", "install_problems", "problem_response", "read_router"]
