"""The files of one checkout as a language model may touch them: below the root, never through a link, in bounds."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from diurna_agents.branch import checked_path
from diurna_schemas.errors import InvalidInput, NotFound, TooLarge

FILE_BYTES_MAX: Final = 256 * 1024
WRITTEN_FILES_MAX: Final = 100
WRITTEN_BYTES_MAX: Final = 2 * 1024 * 1024
LISTED_MAX: Final = 2_000
MATCHES_MAX: Final = 200
_SEARCHED_BYTES_MAX: Final = 32 * 1024 * 1024
_MATCH_CHARACTERS_MAX: Final = 200


class Worktree:
    """Reads and writes files by their path below `root`. What was written is remembered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._written: dict[str, bytes] = {}

    @property
    def written(self) -> dict[str, bytes]:
        """The files that were written, as they were written last."""
        return dict(self._written)

    def read(self, path: str) -> bytes:
        """A file, at most 256 KiB. Raises `InvalidInput`, `NotFound` or `TooLarge`."""
        with self._opened(path, os.O_RDONLY) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > FILE_BYTES_MAX:
                raise TooLarge("path", size, FILE_BYTES_MAX)
            data = b""
            while chunk := os.read(descriptor, FILE_BYTES_MAX + 1 - len(data)):
                data += chunk
            return data

    def write(self, path: str, data: bytes) -> None:
        """A file with these contents, in directories made for it. Raises `InvalidInput` or `TooLarge`."""
        if len(data) > FILE_BYTES_MAX:
            raise TooLarge("content", len(data), FILE_BYTES_MAX)
        others = {name: content for name, content in self._written.items() if name != path}
        if len(others) >= WRITTEN_FILES_MAX:
            raise InvalidInput("path", path, f"at most {WRITTEN_FILES_MAX} files may be written")
        total = sum(map(len, others.values())) + len(data)
        if total > WRITTEN_BYTES_MAX:
            raise TooLarge("content", total, WRITTEN_BYTES_MAX)
        self.put(path, data)
        self._written[path] = data

    def put(self, path: str, data: bytes) -> None:
        """A file with these contents, of any size, unremembered: for what was decided already."""
        with self._opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
            os.ftruncate(descriptor, 0)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def paths(self) -> list[str]:
        """The files there are, without git's own, at most 2,000."""
        found: list[str] = []
        for path in self._walk():
            found.append(path)
            if len(found) >= LISTED_MAX:
                break
        return found

    def search(self, text: str) -> list[str]:
        """The lines that hold `text`, as `path:line: …`, at most 200."""
        found: list[str] = []
        wanted, room = text.encode(), _SEARCHED_BYTES_MAX
        for path in self._walk():
            with suppress(InvalidInput, NotFound):
                data = self.read(path)
                room -= len(data)
                if b"\0" in data[:8_000] or wanted not in data:
                    continue
                for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
                    if text in line:
                        found.append(f"{path}:{number}: {line.strip()[:_MATCH_CHARACTERS_MAX]}")
            if room < 0 or len(found) >= MATCHES_MAX:
                break
        return found[:MATCHES_MAX]

    def _walk(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted(names):
                path = Path(folder, name)
                if not path.is_symlink():
                    yield path.relative_to(self.root).as_posix()

    @contextmanager
    def _opened(self, path: str, flags: int) -> Generator[int]:
        """The open file, reached a directory at a time: nothing on the way is a link, whoever makes one meanwhile."""
        parts = checked_path(path).split("/")
        directory = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = self._entered(directory, part, path, make=bool(flags & os.O_CREAT))
                os.close(directory)
                directory = inner
            try:
                descriptor = os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644, dir_fd=directory)
            except FileNotFoundError as error:
                raise NotFound("file", path) from error
            except OSError as error:
                raise _not_a_file(path) from error
        finally:
            os.close(directory)
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                raise _not_a_file(path)
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _entered(directory: int, part: str, path: str, *, make: bool) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=directory)
            return os.open(part, flags, dir_fd=directory)
        except FileNotFoundError as error:
            raise NotFound("file", path) from error
        except OSError as error:
            raise _not_a_file(path) from error


def _not_a_file(path: str) -> InvalidInput:
    return InvalidInput("path", path, "it is, or leads through, something that is no plain file or directory")
