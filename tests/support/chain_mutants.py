"""Readers that do not go by the chain, deciders and clients alike: what is written then is history."""

# The mutants reach into what is private.
# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.envelope import Link, link_of
from diurna_schemas.errors import BrokenChain

Rule = Callable[[Head, Link], Verdict]


def everything(_head: Head, _link: Link) -> Verdict:
    """Whatever carries a link counts."""
    return Verdict.ACCEPTED


def order_only(head: Head, link: Link) -> Verdict:
    """Whatever is later counts."""
    return Verdict.DUPLICATE if link.order <= head.order else Verdict.ACCEPTED


def have_readers_judge_by(rule: Rule, patch: pytest.MonkeyPatch) -> None:
    """Has every reader of events judge by this rule."""

    def accept(acceptor: Acceptor, offset: int, headers: Sequence[tuple[str, bytes]]) -> Verdict:
        head = acceptor.head
        acceptor._next_offset = offset + 1
        try:
            link = link_of(headers)
        except BrokenChain:
            return Verdict.ALIEN
        verdict = rule(head, link)
        if verdict is Verdict.ACCEPTED:
            acceptor._hash, acceptor._order = link.hash.encode(), link.order
        return verdict

    patch.setattr(Head, "judge", rule)
    patch.setattr(Acceptor, "accept", accept)
