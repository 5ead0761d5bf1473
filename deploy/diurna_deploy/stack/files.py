"""Files of the stack: private to their owner, written whole or not at all, locked for as long as somebody lives."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from diurna_schemas.errors import Conflict, Refused, Unavailable

_TAIL_BYTES_MAX = 8 * 1024


class FileLock:
    """An advisory lock on a file. It lasts until every process that inherited its descriptor is gone."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def try_take(cls, path: Path) -> Self | None:
        """The lock, or None where another holds it. Raises `Conflict` where the file belongs to another account."""
        try:
            import fcntl
        except ImportError as error:
            raise Refused("the embedded stack needs Linux or macOS; on Windows run it inside WSL2") from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise Conflict(f"{path} belongs to another account: use a state directory of your own") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(f"{path} cannot be locked: {error.strerror}: use a local file system") from error
        return cls(path, descriptor)

    def sign(self) -> None:
        """Writes into the file who holds it, for others' error messages."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)

    def release(self) -> None:
        """Lets go of our descriptor; a process that inherited it keeps the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock at this moment."""
    if not path.exists():
        return False
    lock = FileLock.try_take(path)
    if lock is None:
        return True
    lock.release()
    return False


def private_directory(path: Path) -> Path:
    """Makes the directory for its owner's eyes alone. Raises `Conflict` where it belongs to another account."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        details = path.stat()
    except PermissionError as error:
        raise Conflict(f"{path} cannot be made: {error.strerror}: use a directory of your own") from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be made: {error.strerror}") from error
    if details.st_uid != os.geteuid():
        raise Conflict(
            f"{path} belongs to account {details.st_uid}, you are account {os.geteuid()}: use a directory of your own",
            code="other_account",
        )
    if details.st_mode & 0o077:
        path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replaces the file as a whole, mode 0600, on disk before it has its name."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, object]) -> None:
    write_private(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file; None where there is none or it cannot be read as one."""
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def private_log(path: Path) -> BinaryIO:
    """A log to append to, for its owner's eyes whatever the umask is."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def last_lines(path: Path, count: int = 12) -> str:
    """The end of a log, for an error to show."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES_MAX))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-count:])
    except OSError:
        return ""


def require_space(path: Path, bytes_needed: int, what: str) -> None:
    """Raises `Unavailable` where the disk under `path` has less room than `what` needs."""
    free = shutil.disk_usage(path).free
    if free < bytes_needed:
        raise Unavailable(
            f"no space for {what}: {path} has {free // 2**20} MB free, {bytes_needed // 2**20} MB are needed"
        )
