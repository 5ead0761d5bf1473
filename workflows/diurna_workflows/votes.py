"""Merges what several agents diagnosed into one remedy: each vote weighs what its agent is sure of.

The remedy with the largest sum wins; of equal ones the more cautious, asking a person before restarting before doing
nothing. An agent that did not answer, or not with a vote, has none. Without any vote a person is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REMEDIES: Final = ("none", "restart_service", "ask_person")
"""The more cautious the later."""


def merged_votes(diagnoses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `remedy`, the `diagnosis` of whoever was surest of it, the `weights`, and each agent's vote."""
    weights: dict[str, float] = {}
    votes: dict[str, dict[str, Any]] = {}
    for agent, found in sorted(diagnoses.items()):
        remedy, confidence = found.get("remedy"), found.get("confidence")
        if remedy not in REMEDIES or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            continue
        votes[agent] = {"remedy": remedy, "confidence": confidence, "diagnosis": str(found.get("diagnosis", ""))}
        weights[str(remedy)] = round(weights.get(str(remedy), 0.0) + confidence, 6)
    if not votes:
        return {"remedy": "ask_person", "diagnosis": "no agent could say why", "weights": {}, "votes": {}}
    remedy = max(weights, key=lambda name: (weights[name], REMEDIES.index(name)))
    surest = max((vote for vote in votes.values() if vote["remedy"] == remedy), key=lambda vote: vote["confidence"])
    return {"remedy": remedy, "diagnosis": surest["diagnosis"], "weights": weights, "votes": votes}
