"""What goes wrong: one class a kind, each also a ValueError or an OSError.

Attributes say where, and are None where that has no place.
"""

from __future__ import annotations

import os
# Importing `typing` would take longer than all else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import StorePath


class Error(Exception):
    """The base of all that this package raises, but for wrong types of arguments."""

    message: str

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        from . import _restore

        return _restore.error, (type(self), dict(self.__dict__))


class HashError(Error, ValueError):
    """Not a hash, not nixbase32, or an algorithm that is not known."""

    offset: int | None
    """Where in the text, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class StorePathError(Error, ValueError):
    """Not a store path, a store directory or a content address."""

    offset: int | None
    """Where in the base name, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class SignatureError(Error, ValueError):
    """Not a key or a signature."""

    offset: int | None
    """Where in the text, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class NarInfoError(Error, ValueError):
    """Not a narinfo."""

    line: int | None
    """The line, counted from 1."""
    field: str | None
    """The field, if the fault is in one that is known."""
    path: str | None
    """The file, if it was read from one."""

    def __init__(
        self, message: str, *, line: int | None = None, field: str | None = None, path: str | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.field = field
        self.path = path


class NarError(Error, ValueError):
    """Not a NAR."""

    offset: int | None
    """Where in the archive, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class ListingError(Error, ValueError):
    """Not the listing of a NAR, or one that JSON cannot hold."""


class CompressionError(Error, ValueError):
    """Cannot be decompressed, or not compressed in this way."""


class PathInfoError(Error, ValueError):
    """Not path infos: neither JSON nor a registration."""

    line: int | None
    """The line, counted from 1."""
    column: int | None
    """The column in bytes, counted from 1."""
    path: str | None
    """The file, if it was read from one that was named."""

    def __init__(
        self, message: str, *, line: int | None = None, column: int | None = None, path: str | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.path = path


class GraphError(Error, ValueError):
    """Records contradict each other, paths refer to one another in a circle, or a path is not there."""

    paths: tuple[StorePath, ...]
    """The paths that it is about."""

    def __init__(self, message: str, *, paths: tuple[StorePath, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class CacheUrlError(Error, ValueError):
    """Not the URL of a cache."""


class CacheContentError(Error, ValueError):
    """What is in a cache is not what it should be."""

    path: str | None
    """The object, with the cache before its name."""
    line: int | None
    """The line of a narinfo, counted from 1."""
    field: str | None
    """The field of a narinfo."""

    def __init__(
        self, message: str, *, path: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
        self.field = field


class _SystemError(Error, OSError):
    """What the system refuses. `errno` is the system's number, if it gave one."""

    path: str | None
    """The file, or the object of a cache."""

    def __init__(self, message: str, *, path: str | None = None, errno: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.errno = errno

    def __reduce__(self) -> tuple[Any, ...]:
        from . import _restore

        return _restore.error, (type(self), {**self.__dict__, "errno": self.errno})

    @property
    def strerror(self) -> str | None:  # type: ignore[override]
        """The system's words for `errno`."""
        return None if self.errno is None else os.strerror(self.errno)


class PackError(_SystemError):
    """A tree cannot be packed."""


class UnpackError(_SystemError):
    """An archive cannot be unpacked where it should be."""


class SourceError(_SystemError):
    """A file, a file object or a database cannot be opened, read or written."""


class CacheError(_SystemError):
    """A cache cannot be reached, read or written."""


class PushError(_SystemError):
    """Paths cannot be published."""


class PullError(_SystemError):
    """Paths are in no cache, or cannot be put where they should be."""
