"""An agent of openai-agents in the team: its real runner and client, and a model's HTTP interface on loopback."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import agents
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from diurna import AgentRequestEvent, AgentResponseEvent, Context, InvalidInput
from diurna.neighbours import from_openai_agents
from diurna.testing import Team, team
from support.model_server import HANGS, ModelServer, calls, fails, refuses, says
from support.served import served


class Verdict(BaseModel):
    guilty: bool
    because: str


@agents.function_tool
async def count_letters(about: agents.RunContextWrapper[Context], text: str) -> int:
    """Counts letters, and tells the team."""
    await about.context.report("counting", {"letters": len(text)})
    return len(text)


@agents.function_tool(needs_approval=True)
async def launch(target: str) -> str:
    """Nothing anybody should do alone."""
    raise AssertionError("it was launched")


@dataclass
class Desk:
    """Somebody who asks agents with a model that says what it is told to."""

    memory: Team
    server: ModelServer
    model: agents.Model

    def agent(self, **options: Any) -> agents.Agent[Any]:
        return agents.Agent(
            name="writer", instructions="Be brief.", model=self.model, **{"tools": [count_letters, launch], **options}
        )

    async def ask(self, handler: Any, payload: dict[str, Any], **more: Any) -> AgentResponseEvent:
        name = f"neighbour-{uuid.uuid4().hex[:8]}"
        agent = self.memory.agent(name)
        agent.on_request("write")(handler)
        async with agent.running(), self.memory.bus() as bus:
            return await bus.request_agent(
                AgentRequestEvent(
                    source_agent="tester", target_agent=name, request_type="write", payload=payload, **more
                )
            )


@pytest.fixture(scope="module")
async def desk() -> AsyncIterator[Desk]:
    agents.set_tracing_disabled(True)
    server = ModelServer()
    async with (
        served(server.app) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        team() as memory,
    ):
        yield Desk(memory, server, agents.OpenAIResponsesModel("local", client))


async def test_it_is_told_the_input_uses_its_tools_and_answers(desk: Desk) -> None:
    desk.server.will(calls("count_letters", text="abc"), says("Three."))
    answer = await desk.ask(from_openai_agents(desk.agent()), {"input": "How long is abc?"}, correlation_id="letters")
    assert (answer.status, answer.result) == ("success", "Three.")
    assert answer.metadata["last_agent"] == "writer"
    assert answer.metadata["usage"] == {"requests": 2, "input_tokens": 14, "output_tokens": 6}
    first, second = desk.server.told
    assert (first["instructions"], first["input"]) == ("Be brief.", [{"role": "user", "content": "How long is abc?"}])
    assert second["input"][-1]["output"] == "3"
    reports = [event for event in desk.memory.events("broadcasts") if event["data"]["step"] == "counting"]
    assert [report["data"]["details"] for report in reports] == [{"letters": 3}]


async def test_both_sides_can_be_given_another_shape(desk: Desk) -> None:
    desk.server.will(says('{"guilty": false, "because": "an alibi"}'))
    judge = from_openai_agents(
        desk.agent(output_type=Verdict),
        to_input=lambda request: [{"role": "user", "content": f"Judge {request.payload['name']}"}],
        context=lambda about: {"attempt": about.attempt},
    )
    assert (await desk.ask(judge, {"name": "Ada"})).result == {"guilty": False, "because": "an alibi"}
    assert desk.server.told[0]["input"] == [{"role": "user", "content": "Judge Ada"}]
    missing = await desk.ask(judge, {"who": "Ada"})
    assert (missing.status, missing.error) == ("rejected", "name: the payload needs this field, and has who")
    shout = from_openai_agents(
        desk.agent(output_type=Verdict), to_result=lambda run: run.final_output.because.upper(), turns_max=1
    )
    assert (await desk.ask(shout, {"input": "Judge"})).result == "AN ALIBI"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "input: text or a list of input items is needed, got None"),
        ({"input": ""}, "input: text or a list of input items is needed, got ''"),
        ({"input": [7]}, "input: text or a list of input items is needed, got [7]"),
        ({"input": "a", "tone": "warm"}, "tone: there is no such field, only input; got 'warm'"),
    ],
)
async def test_what_the_payload_has_wrong_is_rejected_with_its_name(
    desk: Desk, payload: dict[str, Any], said: str
) -> None:
    answer = await desk.ask(from_openai_agents(desk.agent()), payload)
    assert (answer.status, answer.error) == ("rejected", said)


@pytest.mark.parametrize(
    ("said", "status", "error", "code"),
    [
        (refuses("I would rather not"), "rejected", "the model refused: Model refused to produce output: ", None),
        (calls("launch", target="x"), "error", "tools need the approval of a person, and a request has none: launch",
         "needs_person"),
        (calls("count_letters", text="a"), "error", "MaxTurnsExceeded: Max turns (2) exceeded", None),
        (calls("fly"), "error", "ModelBehaviorError: Tool fly not found", None),
        (fails(500, "boom"), "error", "InternalServerError: Error code: 500 - ", None),
        (fails(401, f"bad key sk-{'a1' * 20}"), "error", "AuthenticationError: Error code: 401 - bad key ***", None),
        (says("x" * 300_000), "error", "TooLarge: result: at most 262144 bytes are allowed", None),
    ],
    ids=["a refusal", "an approval", "no end", "no such tool", "a broken model", "a wrong key", "too many words"],
)  # fmt: skip
async def test_every_other_end_is_told_as_what_it_is(
    desk: Desk, said: dict[str, Any], status: str, error: str, code: str | None
) -> None:
    desk.server.will(said)
    answer = await desk.ask(from_openai_agents(desk.agent(), turns_max=2), {"input": "Go"})
    assert (answer.status, answer.result, answer.metadata.get("code")) == (status, None, code)
    assert str(answer.error).startswith(error)


async def test_a_guardrail_on_the_input_is_a_no(desk: Desk) -> None:
    @agents.input_guardrail(run_in_parallel=False)
    async def homework(context: Any, agent: Any, given: Any) -> agents.GuardrailFunctionOutput:
        return agents.GuardrailFunctionOutput(output_info="it is homework", tripwire_triggered="homework" in str(given))

    desk.server.will(says("Fine."))
    handler = from_openai_agents(desk.agent(input_guardrails=[homework]))
    answer = await desk.ask(handler, {"input": "Do my homework"})
    assert answer.status == "rejected"
    assert answer.error == "the guardrail homework refused the input: 'it is homework'"
    assert desk.server.told == []
    assert (await desk.ask(handler, {"input": "Do the dishes"})).result == "Fine."


async def test_a_model_that_hangs_is_left_when_the_time_is_over(desk: Desk) -> None:
    desk.server.will(HANGS)
    answer = await desk.ask(from_openai_agents(desk.agent()), {"input": "Go"}, timeout_seconds=0.5, attempts_max=1)
    assert answer.status == "timeout"
    await desk.server.left_alone.wait()


async def test_runs_are_named_after_the_request_unless_they_have_a_configuration_of_their_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[agents.RunConfig] = []
    run = agents.Runner.run

    async def watched(*arguments: Any, **named: Any) -> Any:
        seen.append(named["run_config"])
        return await run(*arguments, **named)

    monkeypatch.setattr(agents.Runner, "run", watched)
    desk.server.will(says("Done."))
    own = agents.RunConfig(workflow_name="own")
    await desk.ask(from_openai_agents(desk.agent()), {"input": "Go"}, correlation_id="work-7")
    await desk.ask(from_openai_agents(desk.agent(), run_config=own), {"input": "Go"})
    assert (seen[0].workflow_name.split()[1], seen[0].group_id) == ("write", "work-7")
    assert seen[1] is own


@pytest.mark.parametrize("given", ["writer", None, agents.Agent])
def test_what_is_no_agent_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="agent: an Agent of openai-agents is needed"):
        from_openai_agents(given)


def test_without_the_package_it_says_how_to_get_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agents", None)
    with pytest.raises(InvalidInput, match=r"\(diurna\[openai-agents\] installs it\)"):
        from_openai_agents(desk.agent())


def test_a_number_of_turns_that_is_none_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="turns_max: at least 1 is needed, got 0"):
        from_openai_agents(desk.agent(), turns_max=0)
