"""The auditor as a process of its own, as the how-to starts it: it follows the stack's log and serves its metrics."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from diurna_deploy.stack.ports import free_ports

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def test_an_auditor_follows_the_log_of_a_running_stack_and_serves_its_metrics(diurna: Any) -> None:
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_")}
    environment |= {"DIURNA_STATE_DIR": str(diurna.state_dir), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "diurna_deploy.worker", "auditor", "--metrics-port", str(port)], env=environment
    )
    try:
        before = positions(port)
        diurna.run("request", "send", "code-review", "get_status")
        waiting = Retrying(
            retry=retry_if_result(lambda sums: sums <= before), stop=stop_after_delay(60), wait=wait_fixed(0.5)
        )
        assert waiting(positions, port) > before
        assert re.findall(r"^diurna_audit_diverged\{.*\} (\S+)$", text(port), re.MULTILINE) == ["0.0"] * 18
    finally:
        process.terminate()
        assert process.wait(30) == 0


def positions(port: int) -> float:
    """The sum of what was audited in all partitions, once it is told."""
    asking = Retrying(retry=retry_if_result(lambda found: not found), stop=stop_after_delay(60), wait=wait_fixed(0.2))
    found: list[str] = asking(lambda: re.findall(r"^diurna_audit_position\{.*\} (\S+)$", text(port), re.MULTILINE))
    return sum(map(float, found))


def text(port: int) -> str:
    asking = Retrying(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(60),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    return asking(lambda: httpx.get(f"http://127.0.0.1:{port}/metrics").text)


def test_the_stack_s_own_log_is_clean(diurna: Any) -> None:
    report = diurna.json("audit", "verify")
    assert report["clean"] is True
    assert report["totals"]["redecided"] > 0
    assert {found["family"] for found in report["partitions"]} == {"agents", "locks", "workflows"}


def test_a_stack_that_is_not_there_exits_3(diurna: Any, tmp_path: Any) -> None:
    elsewhere = type(diurna)(tmp_path)
    assert elsewhere.run("audit", "verify").returncode == 3
