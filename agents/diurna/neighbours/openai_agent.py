"""An agent of openai-agents as a handler: its tools, handoffs and guardrails stay its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from diurna.handlers import Rejected
from diurna.neighbours.exchange import (
    NEEDS_PERSON,
    Handler,
    ToInput,
    answer,
    input_of,
    result_of,
    unchanged,
    without_others,
)
from diurna.workers import Context
from diurna_schemas.errors import InvalidInput, shown
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus

if TYPE_CHECKING:
    import agents

TURNS_MAX: Final = 10


def from_openai_agents(
    agent: agents.Agent[Any],
    *,
    to_input: ToInput | None = None,
    to_result: Callable[[agents.RunResult], Any] | None = None,
    context: Callable[[Context], Any] = unchanged,
    turns_max: int = TURNS_MAX,
    run_config: agents.RunConfig | None = None,
) -> Handler:
    """A handler that runs an agent: `input` of the payload is what it is told, its final output is the result.

    `input` is text, or a list of input items; `to_input` makes it of the request. `to_result` is given the RunResult.
    Tools find `diurna.Context` as the context of their wrapper, or what `context` makes of it. A guardrail on the input
    and a model that refuses are the answer "rejected"; a tool that needs an approval is an error whose code is
    "needs_person". What was used of the model, and which agent had the last word, is in the metadata.
    Without a `run_config`, traces are named after the request, and grouped by its correlation id.
    Raises `InvalidInput` where it is no agent of openai-agents.
    """
    foreign = _package()
    if foreign is None or not isinstance(cast("object", agent), foreign.Agent):
        raise InvalidInput("agent", agent, "an Agent of openai-agents is needed (diurna[openai-agents] installs it)")
    if turns_max < 1:
        raise InvalidInput("turns_max", turns_max, "at least 1 is needed")

    async def handle(request: AgentRequestEvent, about: Context) -> AgentResponseEvent:
        given = _told(request) if to_input is None else input_of(request, to_input)
        named = foreign.RunConfig(
            workflow_name=f"{about.agent_id} {request.request_type}", group_id=request.correlation_id
        )
        try:
            run = await foreign.Runner.run(
                agent, given, context=context(about), max_turns=turns_max, run_config=run_config or named
            )
        except foreign.InputGuardrailTripwireTriggered as error:
            found = error.guardrail_result
            raise Rejected(
                f"the guardrail {found.guardrail.get_name()} refused the input: {shown(found.output.output_info)}"
            ) from error
        except foreign.ModelRefusalError as error:
            raise Rejected(f"the model refused: {error}") from error
        return _answer(request, run, to_result or _final_output)

    return handle


def _package() -> Any:
    """openai-agents, where it is installed."""
    try:
        import agents
    except ImportError:
        return None
    return agents if hasattr(agents, "Runner") else None


def _told(request: AgentRequestEvent) -> Any:
    without_others(request, {"input"})
    given: Any = request.payload.get("input")
    match given:
        case str() if given:
            return given
        case [dict(), *_]:
            return cast("Any", given)
        case _:
            raise Rejected(f"input: text or a list of input items is needed, got {shown(given)}")


def _final_output(run: agents.RunResult) -> Any:
    return run.final_output


def _answer(
    request: AgentRequestEvent, run: agents.RunResult, to_result: Callable[[agents.RunResult], Any]
) -> AgentResponseEvent:
    usage = run.context_wrapper.usage
    metadata: dict[str, Any] = {
        "last_agent": run.last_agent.name,
        "usage": {
            "requests": usage.requests,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
        },
    }
    if run.interruptions:
        tools = ", ".join(sorted({item.name or "unnamed" for item in run.interruptions}))
        return answer(
            request,
            AgentResponseStatus.ERROR,
            error=f"tools need the approval of a person, and a request has none: {tools}",
            metadata={**metadata, "code": NEEDS_PERSON},
        )
    return answer(request, AgentResponseStatus.SUCCESS, result=result_of(run, to_result), metadata=metadata)
