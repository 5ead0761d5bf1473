"""Ports, process identities, private files, names and settings of the stack."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from diurna_agents.process_identity import ProcessIdentity, adopt
from diurna_deploy.lifecycle import processes
from diurna_deploy.settings import API_PORT, Settings
from diurna_deploy.stack import Addresses, ProcessSpec
from diurna_deploy.stack.files import FileLock, last_lines, private_directory, require_space, write_json
from diurna_deploy.stack.kafka_config import server_properties
from diurna_deploy.stack.nursery import WORKER, Nursery
from diurna_deploy.stack.ports import asked_for, claimed, free_ports, kept_ports
from diurna_deploy.stack.processes import Order, Orders, ProcessRecord, record_file, running_processes, stop_leftovers
from diurna_deploy.stack.state import StateDirectory
from diurna_deploy.stack.supervisor import Child
from diurna_deploy.worker import PRELOADED, preloaded_as
from diurna_schemas.errors import Conflict, InvalidInput, Unavailable
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.librdkafka import _note  # pyright: ignore[reportPrivateUsage]

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def stubborn() -> subprocess.Popen[bytes]:
    """A process that ignores SIGTERM, once it has said so."""
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


VARIABLES = [name for name in os.environ if name.startswith("DIURNA_")]


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name)


def test_ports_are_kept_until_somebody_else_has_them(tmp_path: Path) -> None:
    first = kept_ports(tmp_path / "ports.json", {"a": 0, "b": 0})
    assert kept_ports(tmp_path / "ports.json", {"a": 0, "b": 0}) == first
    with socket.create_server(("127.0.0.1", first["a"])):
        second = kept_ports(tmp_path / "ports.json", {"a": 0, "b": 0})
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]


def test_a_port_that_is_asked_for_and_taken_is_refused_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Conflict, match=rf"kafka_port: port {port} is taken by process {os.getpid()}"):
            asked_for("kafka_port", port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidInput, match="kafka_port"):
        asked_for("kafka_port", port)


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_claimed_port_is_nobody_else_s_until_it_is_released() -> None:
    (port,) = free_ports(1)
    claim = claimed(port)
    assert claim is not None
    assert claimed(port) is None
    claim.release()
    with socket.create_server(("127.0.0.1", port)):
        assert claimed(port) is None
    again = claimed(port)
    assert again is not None
    again.release()


def test_an_identity_ends_with_its_process_even_as_a_zombie() -> None:
    child = sleeper()
    identity = ProcessIdentity.of(child.pid)
    assert identity is not None
    assert identity.is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and a zombie: nobody has taken its exit code
    assert not identity.is_alive()
    assert ProcessIdentity.of(child.pid) is None
    child.wait()


async def test_another_process_with_the_same_number_is_neither_alive_nor_signalled() -> None:
    child = sleeper()
    try:
        stranger = ProcessIdentity(child.pid, "another boot:1")
        assert not stranger.is_alive()
        stranger.send(signal.SIGKILL)
        assert await stranger.stop(seconds=1)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


async def test_a_process_that_ignores_the_request_is_killed() -> None:
    child = stubborn()
    identity = adopt(child)
    assert identity is not None
    assert not await identity.stop(seconds=0.3)
    assert child.wait() == -signal.SIGKILL


def test_a_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    lock = FileLock.try_take(tmp_path / "lock")
    assert lock is not None
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock.descriptor,))
    lock.release()
    assert FileLock.try_take(tmp_path / "lock") is None
    child.kill()
    child.wait()
    again = FileLock.try_take(tmp_path / "lock")
    assert again is not None
    again.release()


def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = private_directory(tmp_path / "state")
        write_json(folder / "secret.json", {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "secret.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["secret.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another account")
def test_a_folder_of_another_account_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(Conflict, match="belongs to account 12345, you are account 0"):
        private_directory(tmp_path)


def test_too_little_space_is_said_in_megabytes(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no space for kafka: .* MB free, 1099511627776 MB are needed"):
        require_space(tmp_path, 2**60, "kafka")


def test_the_end_of_a_log_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(tmp_path / "log", 2) == "line 99998\nline 99999"
    assert last_lines(tmp_path / "none") == ""


def test_the_broker_listens_on_the_loopback_alone_and_makes_no_topics() -> None:
    properties = dict(
        line.split("=", 1) for line in server_properties({"broker": 1, "controller": 2}, data="data").splitlines()
    )
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert properties["auto.create.topics.enable"] == "false"
    assert "controlled.shutdown.enable" not in properties


@pytest.mark.parametrize("name", ["", "Kafka", "a/b", "../x", "kafka", "supervisor", "a" * 65])
def test_a_process_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        ProcessSpec(name, ("true",))


def test_a_process_starts_after_the_stage_before_its_own_or_after_the_one_it_names() -> None:
    assert ProcessSpec("a", ("true",), stage=2).step == 2
    assert ProcessSpec("a", ("true",), stage=2, waits_for=0).step == 1
    for later in (-1, 2, 3):
        with pytest.raises(InvalidInput, match="waits_for"):
            ProcessSpec("a", ("true",), stage=2, waits_for=later)


def test_a_process_without_a_program_or_with_an_odd_stage_is_refused() -> None:
    with pytest.raises(InvalidInput, match="argv"):
        ProcessSpec("a", ())
    with pytest.raises(InvalidInput, match="stage"):
        ProcessSpec("a", ("true",), stage=10)


def test_every_process_of_the_stack_has_its_part_in_the_nursery(tmp_path: Path) -> None:
    """In the order in which they are forked: one that waits for its part has everybody before it served."""
    addresses = Addresses(
        "127.0.0.1:1", "postgresql://diurna@127.0.0.1:2/x", "http://127.0.0.1:3", "http://127.0.0.1:3"
    )
    specs = processes(Settings.load(state_dir=tmp_path), addresses)
    assert [preloaded_as(spec.argv[len(WORKER) :]) for spec in specs] == list(PRELOADED)


def test_orders_survive_the_file_they_travel_in(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    spec = ProcessSpec("a", ("prog", "x"), {"B": "own"}, ready=tmp_path / "ready", stage=2, stop_seconds=3)
    orders = Orders((Order.of(spec, {"A": "1", "B": "2"}),), {"kafka": 9092}, "/cache")
    orders.write(state)
    assert Orders.read(state) == orders
    assert orders.processes[0].env == {"A": "1", "B": "own"}


async def test_leftovers_stop_by_falling_stage_and_strangers_are_spared(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.make()
    child = sleeper()
    ProcessRecord("ours", adopt(child), "running", stage=1).write(state)
    ProcessRecord("stranger", ProcessIdentity(os.getpid(), "another boot:1"), "running").write(state)
    assert {process.name: process.state for process in running_processes(state)} == {
        "stranger": "stopped",
        "ours": "running",
    }
    assert await stop_leftovers(state) == ["ours"]
    assert running_processes(state) == []


def test_addresses_become_the_variables_that_the_settings_read(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = Addresses("127.0.0.1:9092", "postgresql://u:p@127.0.0.1:1/d", "http://r/x", "http://a")
    for name, value in addresses.to_environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.kafka_bootstrap_servers == "127.0.0.1:9092"
    assert settings.database_url == addresses.database_url
    assert settings.schema_registry_url == "http://r/x"
    assert Addresses.from_json(addresses.to_json()) == addresses
    assert Addresses.from_json({"api_url": "http://a"}) is None


def test_what_is_given_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().api_port == API_PORT
    assert not Settings.load().api_port_was_asked_for
    monkeypatch.setenv("DIURNA_API_PORT", "9001")
    assert Settings.load(api_port=None).api_port == 9001
    assert Settings.load().api_port_was_asked_for
    assert Settings.load(api_port=9002).api_port == 9002


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIURNA_DATABASE_URL", "")
    assert Settings.load().database_url is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DIURNA_API_PORT", "70000"),
        ("DIURNA_API_PORT", "eight"),
        ("DIURNA_KAFKA_BOOTSTRAP_SERVERS", "localhost"),
        ("DIURNA_DATABASE_URL", "mysql://127.0.0.1/x"),
        ("DIURNA_SCHEMA_REGISTRY_URL", "registry:8081"),
        ("DIURNA_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=variable) as caught:
        Settings.load()
    assert caught.value.value == value


def test_a_password_is_not_shown_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIURNA_DATABASE_URL", "mysql://user:secret@127.0.0.1/x")
    with pytest.raises(InvalidInput) as caught:
        Settings.load()
    assert "secret" not in str(caught.value)
    assert "mysql://user:***@127.0.0.1/x" in str(caught.value)


async def test_a_supervisor_on_a_full_disk_goes_on_and_writes_down_later_what_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDirectory(tmp_path)
    state.make()
    order = Order("sleeper", (sys.executable, "-c", "import time; time.sleep(60)"), {}, None, 0, 1.0)
    child = Child(order, state, Nursery(state))

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    class FullLog:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("diurna_deploy.stack.processes.write_json", full)
        patch.setattr("sys.stderr", FullLog())
        await child.look()
        await child.look()
        assert ProcessRecord.read(record_file(state, "sleeper")) is None
    try:
        await child.look()
        record = ProcessRecord.read(record_file(state, "sleeper"))
        assert record is not None
        assert record.identity == child.identity
        assert child.identity is not None
        assert child.identity.is_alive()
    finally:
        await child.stop()
    assert not record_file(state, "sleeper").exists()


def test_a_line_of_the_log_that_finds_no_room_fails_nothing() -> None:
    """In a process of its own: logging is set up once."""
    program = """
import sys, structlog, logging
from diurna_deploy import logs
logs.configure(process="p", stream=open("/dev/full", "w"))
structlog.get_logger("a").warning("lost")
logging.getLogger("b").warning("lost")
print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stdout == "went on\n", ended.stderr


def test_what_a_client_of_kafka_says_again_and_again_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    KafkaLog("127.0.0.1:1")
    anew = uuid.uuid4().hex  # another test in this process may have had the same said a moment ago
    lost, leaderless = f"{anew}: unable to connect to node with id %s: %s", f"{anew}: no leader for %s"
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            logging.getLogger("aiokafka").error(lost, 4_711, number)
            logging.getLogger("aiokafka.cluster").warning(leaderless, number)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("aiokafka")]
    assert told == [lost % (4_711, 0), leaderless % 0]
    _note(KafkaError(KafkaError._ALL_BROKERS_DOWN))  # pyright: ignore[reportPrivateUsage]
    assert capsys.readouterr().out == "", "a program that uses the SDK prints what it prints itself"
