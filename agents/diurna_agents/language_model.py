"""A language model within bounds: of time, of what it is told, of what it says, of how often it may use a tool.

It is optional. Any LangChain chat model will do; `named` loads one by its name when it is first needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

from pydantic import BaseModel, ValidationError

from diurna_agents.errors import ModelFailed, NeedsModel
from diurna_schemas.errors import DiurnaError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

CALL_SECONDS_MAX: Final = 120.0
TOOL_SECONDS_MAX: Final = 300.0
INPUT_CHARACTERS_MAX: Final = 400_000
"""All that a model is told in one conversation."""
OUTPUT_CHARACTERS_MAX: Final = 64_000
TOOL_OUTPUT_CHARACTERS_MAX: Final = 16_000
TOOL_CALLS_A_STEP_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a model may have done. `run` gets the validated arguments; what it refuses, the model is told."""

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[[Any], Awaitable[str]]

    def as_schema(self) -> dict[str, Any]:
        """As every provider's `bind_tools` understands it."""
        parameters = self.arguments.model_json_schema()
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Worked:
    """How a conversation with tools ended: the model's last words, or in `stopped` what cut it short."""

    words: str
    steps: int
    tool_calls: int
    stopped: str | None


class LanguageModel:
    """One chat model. Its failures leave here as `ModelFailed`, their cause kept."""

    def __init__(self, load: Callable[[], BaseChatModel], *, name: str, call_seconds: float = CALL_SECONDS_MAX) -> None:
        self.name = name
        self._load = load
        self._call_seconds = call_seconds
        self._chat: BaseChatModel | None = None

    @classmethod
    def of(cls, chat: BaseChatModel, *, name: str = "given", call_seconds: float = CALL_SECONDS_MAX) -> Self:
        """A chat model that is there already."""
        return cls(lambda: chat, name=name, call_seconds=call_seconds)

    @classmethod
    def named(cls, name: str) -> Self:
        """The model LangChain knows by this name, such as `anthropic:claude-sonnet-4-5`; keys are the provider's."""

        def load() -> BaseChatModel:
            try:
                from langchain.chat_models import init_chat_model

                return init_chat_model(name)
            except ImportError as error:
                raise NeedsModel(f"a language model is needed; DIURNA_MODEL is {name!r}, but {error}") from error
            except Exception as error:
                # Whatever a provider's package has to say about a wrong name or a missing key.
                reason = f"a language model is needed; DIURNA_MODEL is {name!r}, but it cannot be used: {error}"
                raise NeedsModel(reason) from error

        return cls(load, name=name)

    async def say(self, instructions: str, question: str) -> str:
        """One answer to one question. Raises `ModelFailed`, `NeedsModel` where it cannot be loaded."""
        from langchain_core.messages import HumanMessage, SystemMessage

        chat = await self._loaded()
        question = _bounded(question, INPUT_CHARACTERS_MAX - len(instructions))
        answer = await self._called(chat, [SystemMessage(instructions), HumanMessage(question)])
        return _bounded(_words(answer), OUTPUT_CHARACTERS_MAX)

    async def work(
        self, instructions: str, task: str, tools: Sequence[Tool], *, steps_max: int, seconds: float
    ) -> Worked:
        """Lets it use tools until it says that it is done, or a bound is reached; `stopped` then names it."""
        from langchain_core.messages import HumanMessage, SystemMessage

        chat = await self._loaded()
        try:
            bound: Any = chat.bind_tools([tool.as_schema() for tool in tools])
        except NotImplementedError as error:
            raise NeedsModel(f"a language model that uses tools is needed; {self.name} does not") from error
        messages: list[BaseMessage] = [SystemMessage(instructions), HumanMessage(task)]
        conversation = _Conversation(messages, {tool.name: tool for tool in tools}, time.monotonic() + seconds)
        for step in range(1, steps_max + 1):
            if (why := conversation.exhausted()) is not None:
                return Worked("", step - 1, conversation.calls, why)
            answer = await self._called(bound, messages, seconds=conversation.left())
            messages.append(answer)
            if not answer.tool_calls:
                return Worked(_bounded(_words(answer), OUTPUT_CHARACTERS_MAX), step, conversation.calls, None)
            await conversation.use_tools(answer)
        return Worked("", steps_max, conversation.calls, f"it was not done after {steps_max} steps")

    async def _loaded(self) -> BaseChatModel:
        if self._chat is None:
            self._chat = await asyncio.to_thread(self._load)
        return self._chat

    async def _called(self, chat: Any, messages: Sequence[BaseMessage], *, seconds: float | None = None) -> AIMessage:
        limit = self._call_seconds if seconds is None else min(seconds, self._call_seconds)
        try:
            async with asyncio.timeout(limit):
                return cast("AIMessage", await chat.ainvoke(list(messages)))
        except TimeoutError as error:
            raise ModelFailed(self.name, f"no answer within {limit:g} s") from error
        except Exception as error:
            # Every provider has errors of its own.
            raise ModelFailed(self.name, f"{type(error).__name__}: {error}") from error


class _Conversation:
    """What was said so far, and what was done."""

    def __init__(self, messages: list[BaseMessage], tools: dict[str, Tool], deadline: float) -> None:
        self._messages = messages
        self._tools = tools
        self._deadline = deadline
        self.calls = 0

    def left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def exhausted(self) -> str | None:
        """Which bound was reached."""
        if time.monotonic() >= self._deadline:
            return "its time was over"
        if sum(len(_words(message)) for message in self._messages) > INPUT_CHARACTERS_MAX:
            return f"the conversation grew beyond {INPUT_CHARACTERS_MAX} characters"
        return None

    async def use_tools(self, answer: AIMessage) -> None:
        from langchain_core.messages import ToolMessage

        for at, call in enumerate(answer.tool_calls):
            if at < TOOL_CALLS_A_STEP_MAX:
                said, failed = await self._use(call["name"], call["args"])
            else:
                said, failed = f"not done: at most {TOOL_CALLS_A_STEP_MAX} tools may be used at once", True
            status: Any = "error" if failed else "success"
            text = _bounded(said, TOOL_OUTPUT_CHARACTERS_MAX)
            self._messages.append(ToolMessage(text, tool_call_id=call["id"] or call["name"], status=status))

    async def _use(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """What the tool says, and whether it is a no. A wrong call is the model's to correct."""
        self.calls += 1
        tool = self._tools.get(name)
        if tool is None:
            return f"there is no tool {name!r}, only {', '.join(self._tools)}", True
        try:
            async with asyncio.timeout(min(self.left(), TOOL_SECONDS_MAX)):
                return await tool.run(tool.arguments.model_validate(arguments)), False
        except ValidationError as error:
            return f"wrong arguments: {error.errors(include_url=False, include_input=False)}", True
        except TimeoutError:
            return "it took too long and was ended", True
        except DiurnaError as error:
            return str(error), True


def _words(message: BaseMessage) -> str:
    """The text of a message, whatever parts its provider makes it of."""
    return str(message.text)


def _bounded(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return text
    return f"{text[:characters_max]}\n[… {len(text) - characters_max} characters cut]"
