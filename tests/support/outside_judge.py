"""Histories as the outside judge takes them: Porcupine, a linearizability checker that others wrote, in Go.

It knows nothing of logs and deciders: only what clients asked for, when, and what they were told.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from support.lock_checkers import CLAIM_MS, CLOCK_SPREAD
from support.lock_history import Operation

PROGRAM = Path(__file__).parents[1] / "linearizability"
BUILD_SECONDS = 240
JUDGE_SECONDS = 60
_ROUNDING_S = 0.005
"""The log counts milliseconds."""

Verdict = Literal["ok", "illegal", "unknown"]


@dataclass
class Update:
    """An attempt to change a workflow, and what came of it. `expected` none: whatever its version.

    `version` is the one that was made (ok), or the one that was in the way (no).
    """

    client: str
    workflow_id: str
    kind: Literal["create", "update"]
    called_s: float
    returned_s: float | None = None
    outcome: Literal["ok", "no", "unknown"] = "unknown"
    expected: int | None = None
    version: int = 0


@functools.cache
def built() -> Path:
    """The judge, built once a session. Skips the test, with the reason, where Go or its modules are not to be had."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, so the outside judge is not asked")
    fetched = subprocess.run(
        [go, "mod", "download"], cwd=PROGRAM, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if fetched.returncode != 0:
        why = (fetched.stderr.strip().splitlines() or ["no reason was given"])[-1]
        pytest.skip(f"the outside judge's module cannot be fetched: {why}")
    folder = tempfile.mkdtemp(prefix="diurna-judge-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = Path(folder) / "judge"
    done = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=PROGRAM, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return program


def judge(
    model: Literal["lock", "register"], operations: Iterable[dict[str, Any]], *, picture: Path | None = None
) -> Verdict:
    """Whether this could have happened. `unknown`: there was no time to find out."""
    program = built()
    drawing = [] if picture is None else ["-picture", str(picture)]
    done = subprocess.run(
        [str(program), *drawing],
        input=json.dumps({"model": model, "seconds": JUDGE_SECONDS, "operations": list(operations)}),
        capture_output=True, text=True, timeout=2 * JUDGE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict: Verdict = json.loads(done.stdout)["verdict"]
    return verdict


def judge_locks(operations: Iterable[Operation], *, picture: Path | None = None) -> Verdict:
    """Whether clients of locks that work could have been told this."""
    return judge("lock", lock_operations(list(operations)), picture=picture)


def judge_versions(updates: Iterable[Update]) -> Verdict:
    """Whether writers of compare-and-set registers could have been told this."""
    return judge("register", version_operations(list(updates)))


def lock_operations(operations: list[Operation]) -> Iterator[dict[str, Any]]:
    """What clients did, and for each lease its end, which is nobody's act: it may come from its time on."""
    end_s = _end_s((one.called_s, one.returned_s) for one in operations)
    clients = {name: number for number, name in enumerate(dict.fromkeys(one.client for one in operations))}
    by_lock: dict[str, list[Operation]] = {}
    for one in operations:
        by_lock.setdefault(one.lock_id, []).append(one)
    grants = [one for one in operations if one.kind == "acquire" and one.outcome == "ok" and one.token is not None]
    for lock_id, found in by_lock.items():
        acquired = next((one for one in found if one.kind == "acquire"), None)
        was_granted = acquired is not None and acquired.outcome != "no"
        for one in found:
            kind = "renew" if one.kind == "claim" else one.kind
            if kind == "release" and (not was_granted or (acquired and acquired.outcome == "unknown")):
                continue  # it left the queue: that is no act on the lock
            yield {
                "client": clients[one.client],
                "key": one.resource_id,
                "kind": kind,
                "lock": lock_id,
                "token": one.token or 0,
                "outcome": one.outcome,
                "lasts": _ns(_lasts_s(one)),
                "call": _ns(one.called_s),
                "return": _ns(end_s if one.outcome == "unknown" or one.returned_s is None else one.returned_s),
            }
        if not any(one.kind == "release" and one.outcome == "ok" for one in found):
            yield from _ends(found, grants, len(clients), end_s)


def _ends(found: list[Operation], grants: list[Operation], client: int, end_s: float) -> Iterator[dict[str, Any]]:
    """The end of a lease, once for each time it may have been given: before the next grant, if there was one."""
    tokens = [one.token for one in found if one.token is not None]
    next_s = [
        one.returned_s
        for one in grants
        if tokens and one.resource_id == found[0].resource_id and (one.token or 0) > max(tokens)
        and one.returned_s is not None
    ]  # fmt: skip
    for one in found:
        if one.kind == "release" or one.outcome == "no":
            continue
        may_end_s = one.called_s + _lasts_s(one)
        yield {
            "client": client,
            "key": one.resource_id,
            "kind": "expire",
            "lock": one.lock_id,
            "outcome": "ok",
            "call": _ns(may_end_s),
            "return": _ns(max(min(next_s, default=end_s), may_end_s)),
        }


def _lasts_s(one: Operation) -> float:
    """So long after its call a lease cannot have ended; a grant out of the queue may be over after three seconds."""
    is_short = one.kind == "acquire" and (not one.is_claimed or one.outcome == "unknown")
    lease_s = min(one.lease_s, CLAIM_MS / 1000) if is_short else one.lease_s
    return lease_s * (1 - CLOCK_SPREAD) - _ROUNDING_S


def version_operations(updates: list[Update]) -> Iterator[dict[str, Any]]:
    end_s = _end_s((one.called_s, one.returned_s) for one in updates)
    clients = {name: number for number, name in enumerate(dict.fromkeys(one.client for one in updates))}
    for one in updates:
        yield {
            "client": clients[one.client],
            "key": one.workflow_id,
            "kind": one.kind,
            "outcome": one.outcome,
            "expected": -1 if one.expected is None else one.expected,
            "version": one.version,
            "call": _ns(one.called_s),
            "return": _ns(end_s if one.outcome == "unknown" or one.returned_s is None else one.returned_s),
        }


def _end_s(times: Iterable[tuple[float, float | None]]) -> float:
    """After everything: when what is unknown returns."""
    return max((max(called_s, returned_s or called_s) for called_s, returned_s in times), default=0.0) + 100.0


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
