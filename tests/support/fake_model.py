"""A language model that says what a test wrote for it: langchain-core's own fake, which also takes tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import Field

from diurna_agents.language_model import LanguageModel


class Scripted(GenericFakeChatModel):
    """Remembers what it was told, and which tools it was given."""

    told: list[list[BaseMessage]] = Field(default_factory=list)
    tools: list[dict[str, Any]] = Field(default_factory=list)

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        self.tools = list(tools)
        return self

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **named: Any) -> Any:
        self.told.append(list(messages))
        return super()._generate(messages, *arguments, **named)

    @property
    def last_heard(self) -> str:
        """The last message it was told."""
        return str(self.told[-1][-1].content)


def scripted(answers: Iterable[AIMessage | str]) -> tuple[LanguageModel, Scripted]:
    """A model that gives these answers in turn, and the fake behind it."""
    chat = Scripted(messages=iter(list(answers)))
    return LanguageModel.of(chat, name="scripted"), chat


def uses(*calls: tuple[str, dict[str, Any]]) -> AIMessage:
    """An answer that uses tools."""
    return AIMessage(
        "", tool_calls=[{"name": name, "args": given, "id": f"call-{at}"} for at, (name, given) in enumerate(calls)]
    )
