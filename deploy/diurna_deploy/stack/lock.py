"""Makes `jars.lock` anew: `python -m diurna_deploy.stack.lock` resolves Kafka with jgo and writes what it found.

jgo resolves reproducibly but verifies nothing (its lock's sha256 has no reader), so it only makes the list here,
and `jars.py` holds every byte to it. The lock names no host: a mirror is as good as the original.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

KAFKA_VERSION: Final = "4.4.0"
ENDPOINTS: Final = (
    # the "!" takes the version as it stands; without it each endpoint is also imported as a BOM of the other
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}!",
    # Kafka's own jars bind slf4j to nothing: without this one it logs nothing, not even why it died
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!",
)
LOCK_FILE: Final = Path(__file__).with_name("jars.lock")


def resolve(folder: Path) -> list[dict[str, object]]:
    """Every jar of the endpoints, fetched into `folder`: its path in a Maven repository, sha256 and size."""
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    context: Any = MavenContext(repo_cache=folder, remote_repos={"central": MAVEN_CENTRAL_URL})
    inputs, transitive = context.resolver.resolve([context.create_dependency(name) for name in ENDPOINTS])
    paths = {Path(dependency.artifact.resolve()) for dependency in [*inputs, *transitive]}
    return [
        {
            "path": path.relative_to(folder).as_posix(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in sorted(paths)
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        jars = resolve(Path(folder))
    LOCK_FILE.write_text(json.dumps({"kafka": KAFKA_VERSION, "jars": jars}, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{LOCK_FILE}: {len(jars)} jars\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
