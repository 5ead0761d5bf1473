"""LangGraph's own conformance suite for checkpointers, on memory and on a real Kafka and Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.checkpoint.conformance.report import CapabilityReport
from langgraph.checkpoint.memory import InMemorySaver

from support.savers import Savers, memory_savers, real_savers

pytestmark = pytest.mark.timeout(300)


async def report_of(savers: Savers) -> CapabilityReport:
    @checkpointer_test(name="KafkaCheckpointSaver")
    async def made() -> AsyncIterator[BaseCheckpointSaver[str]]:
        yield await savers()

    return await validate(made)


def check(report: CapabilityReport) -> None:
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    passed = {name for name, result in report.results.items() if result.passed}
    assert passed == {capability.value for capability in ALL_CAPABILITIES}
    assert report.conformance_level() == "FULL"


async def test_the_saver_passes_on_memory() -> None:
    async with memory_savers() as savers:
        check(await report_of(savers))


@pytest.mark.stack
async def test_the_saver_passes_on_kafka_and_postgres(
    kafka_bootstrap: str, fresh_database: Callable[[], Awaitable[str]]
) -> None:
    async with real_savers(kafka_bootstrap, await fresh_database()) as savers:
        check(await report_of(savers))


async def test_the_check_itself_notices_a_saver_that_cannot_do_everything() -> None:
    @checkpointer_test(name="InMemorySaver")
    async def made() -> AsyncIterator[InMemorySaver]:
        yield InMemorySaver()

    with pytest.raises(AssertionError):
        check(await validate(made))
