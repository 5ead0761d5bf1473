"""What a process of the stack inherits: an allow-list, so that no shell's JAVA_OPTS or PGOPTIONS changes a server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

PASSED: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "UV_CACHE_DIR",
    "VIRTUAL_ENV",
)


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The allow-list of our own environment, and `more` on top."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {"LANG": "C.UTF-8"} | passed | dict(more or {})
