"""Which version a workflow is at, what its state is, and who approved what: the decisions about workflows."""

from typing import Final

from diurna_schemas import topics
from diurna_schemas.workflows import TickWorkflows, WorkflowsCommand, WorkflowsEvent
from diurna_streams.deciders.rules import Rules
from diurna_streams.deciders.workflows.decide import decide
from diurna_streams.deciders.workflows.evolve import evolve
from diurna_streams.deciders.workflows.state import WorkflowsState, dump, load, next_due_ms

RULES: Final[Rules[WorkflowsState, WorkflowsCommand, WorkflowsEvent]] = Rules(
    family=topics.WORKFLOWS,
    logic_version=1,
    initial=WorkflowsState(),
    decide=decide,
    evolve=evolve,
    next_due_ms=next_due_ms,
    tick=lambda partition, command_id: TickWorkflows(command_id=command_id, partition=partition),
    dump=dump,
    load=load,
)
