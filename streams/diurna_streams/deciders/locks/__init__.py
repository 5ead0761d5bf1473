"""Who holds a resource, who is next, and with which token: the decisions about locks."""

from typing import Final

from diurna_schemas import topics
from diurna_schemas.locks import LocksCommand, LocksEvent, TickLocks
from diurna_streams.deciders.locks.decide import decide
from diurna_streams.deciders.locks.evolve import evolve
from diurna_streams.deciders.locks.state import LocksState, dump, load, next_due_ms
from diurna_streams.deciders.rules import Rules

RULES: Final[Rules[LocksState, LocksCommand, LocksEvent]] = Rules(
    family=topics.LOCKS,
    logic_version=1,
    initial=LocksState(),
    decide=decide,
    evolve=evolve,
    next_due_ms=next_due_ms,
    tick=lambda partition, command_id: TickLocks(command_id=command_id, partition=partition),
    dump=dump,
    load=load,
)
