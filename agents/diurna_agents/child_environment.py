"""What a child process may see of our environment: an allow-list, so that secrets stay here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_EVERYBODY: Final = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("LD_LIBRARY_PATH", "SYSTEMROOT"),
    }
)
_BUILDS: Final = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
        *("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "PKG_CONFIG_PATH"),
        *("CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HTTP_CAINFO", "MACOSX_DEPLOYMENT_TARGET"),
    }
)
_GIT: Final = frozenset({"HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO"})
_NEVER: Final = ("UV_PUBLISH_", "UV_PYTHON", "UV_PROJECT", "UV_WORKING", "UV_RUN_", "UV_NO_CACHE")
"""Prefixes of uv's own settings that are secrets of another purpose, or would bend what we ask of it."""


def for_tools(environment: Mapping[str, str]) -> dict[str, str]:
    """For uv and the build backends it starts: indexes, certificates, compilers, the user's caches.

    The credentials of the package index are in here, for without them nothing installs.
    """
    chosen = _chosen(environment, _EVERYBODY | _BUILDS, prefixes=("LC_", "UV_", "PIP_"))
    chosen = {name: value for name, value in chosen.items() if not name.startswith(_NEVER)}
    return {
        **chosen,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
        # Foreign code may write into what it imports; a hard link would carry that into uv's cache.
        "UV_LINK_MODE": "copy",
        "GIT_TERMINAL_PROMPT": "0",
    }


def for_git(environment: Mapping[str, str]) -> dict[str, str]:
    """For fetching from a remote: the user's keys and certificates, no question asked on a terminal."""
    chosen = _chosen(environment, _EVERYBODY | _GIT, prefixes=("LC_",))
    return {**chosen, "GIT_TERMINAL_PROMPT": "0"}


def for_analysis(environment: Mapping[str, str], *, home: Path) -> dict[str, str]:
    """For linters, which need next to nothing."""
    return {**_chosen(environment, frozenset({"PATH", "LANG", "TMPDIR"}), prefixes=("LC_",)), "HOME": str(home)}


def for_services(environment: Mapping[str, str]) -> dict[str, str]:
    """For services that are kept running: what everybody sees, and the user's home; the rest they declare."""
    chosen = _chosen(environment, _EVERYBODY | {"HOME", "USER", "LOGNAME"}, prefixes=("LC_",))
    return {**chosen, "PYTHONUNBUFFERED": "1"}


def for_foreign_code(environment: Mapping[str, str], *, home: Path, virtual_environment: Path) -> dict[str, str]:
    """For the repository's own tests and programs: its environment first on PATH, a home of its own.

    No package index, no keys, nothing of the user's home.
    """
    chosen = _chosen(environment, _EVERYBODY, prefixes=("LC_",))
    path = chosen.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {
        **chosen,
        "HOME": str(home),
        "PATH": f"{virtual_environment / 'bin'}:{path}",
        "VIRTUAL_ENV": str(virtual_environment),
        "LANG": chosen.get("LANG", "C.UTF-8"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CI": "true",
    }


def _chosen(environment: Mapping[str, str], names: frozenset[str], *, prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in names or name.startswith(prefixes)}
