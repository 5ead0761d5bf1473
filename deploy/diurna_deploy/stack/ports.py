"""Ports on the loopback address: chosen once, kept for the next start, replaced when somebody else has them."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from diurna_deploy.stack.files import FileLock, read_json, write_json
from diurna_schemas.errors import Conflict, InvalidInput

LOOPBACK = "127.0.0.1"
PORT_MAX = 65535


def is_free(port: int) -> bool:
    """Whether a server could listen there now; connections that are only waiting to be forgotten do not matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different free ports: all are held until the last one is chosen."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def claimed(port: int) -> FileLock | None:
    """Keeps others who start here off a free port until our server listens; none where it is not free."""
    lock = FileLock.try_take(Path(tempfile.gettempdir()) / f"diurna-port-{port}-{os.getuid()}.lock")
    if lock is not None and not is_free(port):
        lock.release()
        return None
    return lock


def asked_for(name: str, port: int) -> int:
    """The port a user insists on. Raises `InvalidInput` where it is none and `Conflict` where it is taken."""
    if not 1 <= port <= PORT_MAX:
        raise InvalidInput(name, port, f"a port is a number from 1 to {PORT_MAX}")
    if not is_free(port):
        raise Conflict(f"{name}: port {port} is taken by {holder_of(port)}: choose another", code="port_taken")
    return port


def kept_ports(path: Path, wanted: Mapping[str, int]) -> dict[str, int]:
    """A port for every name: the one asked for (0 = any), else the one kept in the file if free, else a new one."""
    kept = read_json(path) or {}
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        before = kept.get(name)
        if port:
            chosen[name] = asked_for(name, port)
        elif isinstance(before, int) and 1 <= before <= PORT_MAX and is_free(before):
            chosen[name] = before
    missing = [name for name in wanted if name not in chosen]
    chosen.update(zip(missing, free_ports(len(missing)), strict=True))
    if chosen != kept:
        write_json(path, chosen)
    return chosen


def holder_of(port: int) -> str:
    """Who listens on the port, as far as we may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    break
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return "another process"
