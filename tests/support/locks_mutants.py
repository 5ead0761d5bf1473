"""Rules about locks with one fault each: whoever judges locks must notice every one of them."""

# The mutants reach into what is private.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import builtins
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.window import Window
from support.chain_mutants import everything, have_readers_judge_by, order_only

decide_module = importlib.import_module("diurna_streams.deciders.locks.decide")
evolve_module = importlib.import_module("diurna_streams.deciders.locks.evolve")
_Draft = decide_module._Draft

Mutate = Callable[[pytest.MonkeyPatch], None]


def no_chain(patch: pytest.MonkeyPatch) -> None:
    """Every reader accepts everything."""
    have_readers_judge_by(everything, patch)


def order_without_chain(patch: pytest.MonkeyPatch) -> None:
    """Readers look at the order alone, and not at what an event links to."""
    have_readers_judge_by(order_only, patch)


def token_without_phase(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide_module, "fencing_token", lambda incarnation, offset, _phase: incarnation << 44 | 2 * offset)


def no_deduplication(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Window, "get", lambda _window, _key, _now_ms: None)


def no_clock_guard(patch: pytest.MonkeyPatch) -> None:
    """Time may go back."""

    def latest(*values: Any, **options: Any) -> Any:
        return values[1] if len(values) == 2 else builtins.max(*values, **options)

    patch.setattr(decide_module, "max", latest, raising=False)


def barging(patch: pytest.MonkeyPatch) -> None:
    """A lock that is freed goes to who comes next, past those who wait."""
    promote, acquire = _Draft._promote, _Draft.acquire

    def later(draft: Any, resource_id: str, *, phase: int) -> None:
        if phase == 0 and type(draft).is_ticking:
            promote(draft, resource_id, phase=phase)

    def grab(draft: Any, command: Any) -> None:
        if draft._resource(command.resource_id).holder is None:
            waiter = decide_module._as_waiter(command, draft.now_ms)
            draft._grant(command.resource_id, waiter, phase=1, is_provisional=False)
        else:
            acquire(draft, command)

    let_time_pass = _Draft.let_time_pass

    def passing(draft: Any, resource_id: str | None) -> None:
        type(draft).is_ticking = resource_id is None
        let_time_pass(draft, resource_id)

    patch.setattr(_Draft, "is_ticking", False, raising=False)
    patch.setattr(_Draft, "let_time_pass", passing)
    patch.setattr(_Draft, "_promote", later)
    patch.setattr(_Draft, "acquire", grab)


def last_come_first_served(patch: pytest.MonkeyPatch) -> None:
    def promote(draft: Any, resource_id: str, *, phase: Any) -> None:
        resource = draft._resource(resource_id)
        if resource.holder is None and resource.queue and resource.not_before_ms <= draft.now_ms:
            draft._grant(resource_id, resource.queue[-1], phase=phase, is_provisional=True)

    patch.setattr(_Draft, "_promote", promote)


def unclaimed_grants_stay(patch: pytest.MonkeyPatch) -> None:
    """A grant from the queue never expires unless somebody claims it."""
    granted = evolve_module._locked
    for_ever_ms = 2**52

    def kept(resource: Any, event: Any) -> Any:
        after = granted(resource, event)
        if not event.is_provisional:
            return after
        return replace(after, holder=after.holder._replace(deadline_ms=for_ever_ms))

    patch.setattr(evolve_module, "_locked", kept)


def unclaimed_grants_last(patch: pytest.MonkeyPatch) -> None:
    """A dead waiter costs a whole lease."""
    patch.setattr(decide_module, "CLAIM_MS", 2**40)


def anybody_renews(patch: pytest.MonkeyPatch) -> None:
    renew = _Draft.renew

    def for_all(draft: Any, command: Any) -> None:
        holder = draft._resource(command.resource_id).holder
        if holder is not None:
            command = command.model_copy(update={"lock_id": holder.lock_id, "agent_id": holder.agent_id})
        renew(draft, command)

    patch.setattr(_Draft, "renew", for_all)


def anybody_releases(patch: pytest.MonkeyPatch) -> None:
    release = _Draft.release

    def for_all(draft: Any, command: Any) -> None:
        holder = draft._resource(command.resource_id).holder
        if holder is not None:
            command = command.model_copy(update={"lock_id": None, "agent_id": holder.agent_id})
        release(draft, command)

    patch.setattr(_Draft, "release", for_all)


def grace_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    changed = evolve_module._with

    def at_once(state: Any, resource_id: str, before: Any, after: Any) -> Any:
        return changed(state, resource_id, before, replace(after, not_before_ms=0))

    patch.setattr(evolve_module, "_with", at_once)


def dead_deadlines_stay_on_top(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Heap, "pruned", lambda heap, _is_live, _live_count: heap)


def waits_never_end(patch: pytest.MonkeyPatch) -> None:
    settle = _Draft._settle

    def patient(draft: Any, resource_id: str) -> None:
        resource = draft._resource(resource_id)
        queue = tuple(waiter._replace(until_ms=2**52) for waiter in resource.queue)
        kept = draft.state.resources.set(resource_id, replace(resource, queue=queue))
        draft.state = replace(draft.state, resources=kept if queue else draft.state.resources)
        settle(draft, resource_id)

    patch.setattr(_Draft, "_settle", patient)


OF_THE_RULES: tuple[Mutate, ...] = (
    token_without_phase, no_deduplication, no_clock_guard, barging, last_come_first_served, unclaimed_grants_stay,
    unclaimed_grants_last, anybody_renews, anybody_releases, grace_is_forgotten, dead_deadlines_stay_on_top,
    waits_never_end,
)  # fmt: skip
OF_THE_CHAIN: tuple[Mutate, ...] = (no_chain, order_without_chain)
