"""What children may see, and how URLs are told from paths and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from diurna_agents import child_environment
from diurna_agents.clone import is_url, without_credentials

OURS = {
    "PATH": "/usr/bin",
    "HOME": "/home/ada",
    "LC_ALL": "C.UTF-8",
    "SSL_CERT_FILE": "/etc/ssl/all.pem",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "UV_INDEX_URL": "https://user:word@index.example/simple",
    "UV_PUBLISH_TOKEN": "publish",
    "UV_PYTHON_DOWNLOADS": "automatic",
    "PIP_CERT": "/etc/ssl/all.pem",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "ANTHROPIC_API_KEY": "key",
    "DIURNA_DATABASE_URL": "postgres://…",
    "SSH_AUTH_SOCK": "/run/agent",
    "PYTHONPATH": "/ours",
    "LD_PRELOAD": "/ours.so",
}


def test_tools_see_indexes_and_certificates_and_no_other_secret():
    seen = child_environment.for_tools(OURS)
    assert {"UV_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE", "HTTPS_PROXY", "HOME", "LC_ALL"} <= seen.keys()
    hidden = {"UV_PUBLISH_TOKEN", "AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY", "SSH_AUTH_SOCK", "PYTHONPATH"}
    assert not hidden & seen.keys()
    assert seen["UV_PYTHON_DOWNLOADS"] == "never"


def test_foreign_code_sees_neither_index_nor_home_nor_secret():
    seen = child_environment.for_foreign_code(OURS, home=Path("/tmp/h"), virtual_environment=Path("/tmp/e"))
    assert not [name for name in seen if name.startswith(("UV_", "AWS_", "ANTHROPIC_", "DIURNA_", "SSH_", "LD_P"))]
    assert seen["HOME"] == "/tmp/h"
    assert seen["PATH"] == "/tmp/e/bin:/usr/bin"
    assert seen["SSL_CERT_FILE"] == "/etc/ssl/all.pem"


def test_git_sees_the_keys_of_the_user_and_nothing_else_of_value():
    seen = child_environment.for_git(OURS)
    assert seen["SSH_AUTH_SOCK"] == "/run/agent"
    assert not {"UV_INDEX_URL", "ANTHROPIC_API_KEY", "DIURNA_DATABASE_URL"} & seen.keys()


@pytest.mark.parametrize(
    "url", ["https://example.com/a.git", "git@example.com:a/b.git", "file:///srv/a", "ext::sh://x"]
)
def test_urls_are_told_from_paths(url: str):
    assert is_url(url)


@pytest.mark.parametrize("path", ["/srv/repo", "/srv/odd:name", "./a", "C:thing"])
def test_paths_are_told_from_urls(path: str):
    assert not is_url(path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:token@example.com/a.git", "https://example.com/a.git"),
        ("https://token@example.com:8443/a.git", "https://example.com:8443/a.git"),
        ("ssh://git@example.com/a.git", "ssh://git@example.com/a.git"),
        ("ssh://git:word@example.com/a.git", "ssh://example.com/a.git"),
        ("git@example.com:a.git", "git@example.com:a.git"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str):
    assert without_credentials(url) == shown
