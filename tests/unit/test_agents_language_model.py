"""A model within bounds: what it is told, what it says, how long it takes, how often it uses a tool."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from diurna_agents import language_model
from diurna_agents.errors import ModelFailed, NeedsModel
from diurna_agents.language_model import LanguageModel, Tool
from diurna_schemas.errors import InvalidInput
from support.fake_model import Scripted, scripted, uses


class Number(BaseModel):
    number: int


def doubling() -> Tool:
    async def double(given: Number) -> str:
        if given.number < 0:
            raise InvalidInput("number", given.number, "none below zero")
        return str(given.number * 2)

    return Tool("double", "Doubles.", Number, double)


async def worked(answers: list[AIMessage | str], **bounds: Any) -> tuple[language_model.Worked, Scripted]:
    model, chat = scripted(answers)
    given = {"steps_max": 10, "seconds": 30.0, **bounds}
    return await model.work("be good", "double 21", [doubling()], **given), chat


async def test_it_uses_tools_until_it_says_what_it_did():
    done, chat = await worked([uses(("double", {"number": 21})), "It is 42."])
    assert (done.words, done.steps, done.tool_calls, done.stopped) == ("It is 42.", 2, 1, None)
    assert chat.last_heard == "42"
    assert chat.tools[0]["function"]["parameters"]["properties"] == {"number": {"title": "Number", "type": "integer"}}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("double", {"number": "many"}), "wrong arguments"),
        (("double", {"number": -1}), "number: none below zero, got -1"),
        (("halve", {"number": 2}), "there is no tool 'halve', only double"),
    ],
)
async def test_a_wrong_call_is_told_and_the_model_goes_on(call: tuple[str, dict[str, Any]], told: str):
    done, chat = await worked([uses(call), "Sorry."])
    assert told in chat.last_heard
    assert chat.told[-1][-1].status == "error"  # type: ignore[attr-defined]
    assert done.words == "Sorry."


async def test_it_is_stopped_after_so_many_steps_or_so_much_talk(monkeypatch: pytest.MonkeyPatch):
    done, _ = await worked([uses(("double", {"number": 1}))] * 5, steps_max=3)
    assert (done.steps, done.stopped) == (3, "it was not done after 3 steps")
    monkeypatch.setattr(language_model, "INPUT_CHARACTERS_MAX", 100)
    done, _ = await worked([AIMessage("x" * 200, tool_calls=uses(("double", {"number": 1})).tool_calls)] * 5)
    assert (done.steps, done.stopped) == (1, "the conversation grew beyond 100 characters")
    monkeypatch.setattr(language_model, "TOOL_CALLS_A_STEP_MAX", 2)
    monkeypatch.setattr(language_model, "INPUT_CHARACTERS_MAX", 10_000)
    done, chat = await worked([uses(*[("double", {"number": 1})] * 4), "done"])
    assert done.tool_calls == 2
    assert "at most 2 tools" in chat.last_heard


async def test_its_time_is_limited_for_a_call_and_for_the_whole():
    class Slow(Scripted):
        async def _agenerate(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    model = LanguageModel.of(Slow(messages=iter([])), name="slow", call_seconds=0.05)
    with pytest.raises(ModelFailed, match=r"slow did not answer: no answer within 0\.05 s"):
        await model.say("be quick", "what?")
    with pytest.raises(ModelFailed, match="no answer within"):
        await model.work("be quick", "what?", [doubling()], steps_max=3, seconds=0.02)


async def test_what_it_says_and_what_it_is_told_are_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(language_model, "OUTPUT_CHARACTERS_MAX", 10)
    monkeypatch.setattr(language_model, "INPUT_CHARACTERS_MAX", 50)
    model, chat = scripted(["a" * 30])
    assert await model.say("say it", "b" * 100) == "a" * 10 + "\n[… 20 characters cut]"
    assert chat.last_heard.startswith("b" * 44 + "\n[…")


async def test_a_failure_of_the_provider_is_one_of_ours():
    class Broken(Scripted):
        def _generate(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("quota exceeded")

    with pytest.raises(ModelFailed, match="broken did not answer: RuntimeError: quota exceeded"):
        await LanguageModel.of(Broken(messages=iter([])), name="broken").say("", "?")


async def test_a_model_without_tools_and_one_that_cannot_be_loaded_say_so():
    plain = LanguageModel.of(GenericFakeChatModel(messages=iter([])), name="plain")
    with pytest.raises(NeedsModel, match="plain does not"):
        await plain.work("", "?", [doubling()], steps_max=1, seconds=1)
    with pytest.raises(NeedsModel, match="DIURNA_MODEL is 'nobody:nothing', but"):
        await LanguageModel.named("nobody:nothing").say("", "?")
