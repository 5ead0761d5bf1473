"""Neighbours: what was written with other tools joins the team. Each adapter makes a handler of what is there already.

One line each, as in `agent.on_request("translate")(from_http("http://127.0.0.1:9000/translate"))`.
"""

from __future__ import annotations

from diurna.neighbours.http_service import from_http
from diurna.neighbours.langgraph_graph import from_langgraph
from diurna.neighbours.openai_agent import from_openai_agents

__all__ = ["from_http", "from_langgraph", "from_openai_agents"]
