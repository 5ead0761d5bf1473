"""Who is there, who works on what, and which answer counts: the decisions about agents and their requests."""

from typing import Final

from diurna_schemas import topics
from diurna_schemas.agents import AgentsCommand, AgentsEvent, TickAgents
from diurna_streams.deciders.agents.decide import decide
from diurna_streams.deciders.agents.evolve import evolve
from diurna_streams.deciders.agents.state import AgentsState, dump, load, next_due_ms
from diurna_streams.deciders.rules import Rules

RULES: Final[Rules[AgentsState, AgentsCommand, AgentsEvent]] = Rules(
    family=topics.AGENTS,
    logic_version=1,
    initial=AgentsState(),
    decide=decide,
    evolve=evolve,
    next_due_ms=next_due_ms,
    tick=lambda partition, command_id: TickAgents(command_id=command_id, partition=partition),
    dump=dump,
    load=load,
)
