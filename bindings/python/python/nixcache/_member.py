"""One file of a NAR, as a file object."""

from __future__ import annotations

import errno
import io
import os
from ._nixcache import nar as _nar

# Importing `typing` would take longer than everything else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAGIC = b"\r\0\0\0\0\0\0\0nix-archive-1"


class Member(io.RawIOBase):
    """A file inside a NAR, open for reading. Created by `open`.

    Wrap it in an `io.BufferedReader` for many small reads, or in an `io.TextIOWrapper` for text.
    """

    def __init__(self, archive: Any, node: Any, owned: bool) -> None:
        self._archive: Any = archive
        self._in_memory = isinstance(archive, memoryview)
        self._owned = owned
        self._start = node.offset
        self._size = node.size
        self._at = 0
        self.name = node.path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check()
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._size
        elif whence != os.SEEK_SET:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = offset
        return offset

    def readinto(self, buffer: Any, /) -> int:
        self._check()
        with memoryview(buffer).cast("B") as target:
            length: int = max(0, min(len(target), self._size - self._at))
            if length == 0:
                return 0
            start = self._start + self._at
            archive: Any = self._archive
            if self._in_memory:
                target[:length] = archive[start : start + length]
            else:
                archive.seek(start)
                with target[:length] as wanted:
                    length = archive.readinto(wanted)
                if not length:
                    raise EOFError("the archive ends inside the file")
        self._at += length
        return length

    def close(self) -> None:
        if not self.closed:
            if self._owned:
                _close(self._archive)
            self._archive = None
        super().close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def __len__(self) -> int:
        """The size of the file in bytes."""
        return int(self._size)

    def __repr__(self) -> str:
        return f"<Member {self.name!r}, {self._size} bytes>"


def open(nar: Any, member: Any, /, *, listing: Any = None) -> Member:
    """Opens a file inside a NAR: a path, a buffer, or a binary file object that can seek.

    With a known `listing`, such as the `.ls` of a cache, only the file is read. A compressed NAR is
    decompressed up to the end of the file, which is then held in memory.
    """
    source: Any = nar
    archive: Any
    in_memory, owned = False, True
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        archive = io.FileIO(os.fsdecode(source))
    elif hasattr(nar, "readinto") and hasattr(nar, "seek"):
        archive, owned = nar, False
    else:
        archive, in_memory = memoryview(source).cast("B"), True
    try:
        if in_memory:
            head = bytes(archive[: len(_MAGIC)])
        else:
            archive.seek(0)
            head = archive.read(len(_MAGIC))
            archive.seek(0)
        if head != _MAGIC:
            node, contents = _nar.extract(source if owned else archive, member)
            if owned:
                _close(archive)
            return Member(memoryview(contents), _Whole(node), True)
        if listing is None:
            listing = _nar.listing(source if owned else archive)
        node = listing[member]
        if node.type != "regular":
            kind = errno.EISDIR if node.type == "directory" else errno.ELOOP
            raise OSError(kind, os.strerror(kind), node.path)
        if node.offset is None:
            raise ValueError(f"the listing does not say where {node.path!r} is")
        return Member(archive, node, owned)
    except BaseException:
        if owned:
            _close(archive)
        raise


def _close(archive: Any) -> None:
    if isinstance(archive, memoryview):
        archive.release()
    else:
        archive.close()


class _Whole:
    """A node whose contents are all that there is."""

    def __init__(self, node: Any) -> None:
        self.path = node.path
        self.size = node.size
        self.offset = 0
