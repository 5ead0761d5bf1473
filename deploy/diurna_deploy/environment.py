"""Hands the environment of this process on to those who start children; no setting is read here."""

from __future__ import annotations

import os


def inherited() -> dict[str, str]:
    """The environment as it was given to this process."""
    return dict(os.environ)
