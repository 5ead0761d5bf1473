"""The orchestrator: takes tasks apart, finds who can do them, has them done, and joins the results."""

from diurna_agents.orchestrator.handlers import handlers

__all__ = ["handlers"]
