"""Archives: packed, read, listed, unpacked, and files out of them."""

from __future__ import annotations

import array
import bz2
import gzip
import io
import lzma
import mmap
import os
import stat
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixcache import CompressionError, Hash, NarError, SourceError, StorePath, nar


def packed(path: Path, **options: Any) -> bytes:
    file = io.BytesIO()
    nar.pack(path, file, **options)
    return file.getvalue()


def contents_of(path: Path) -> Any:
    """A tree as values that compare."""
    if path.is_symlink():
        return os.readlink(path)
    if path.is_dir():
        return {name: contents_of(path / name) for name in os.listdir(path)}
    return path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR)


def test_a_tree_goes_round(tree: Path, tmp_path: Path) -> None:
    written = nar.pack(tree, tmp_path / "tree.nar", listing=True)
    archive = (tmp_path / "tree.nar").read_bytes()
    assert written.size == len(archive)
    assert written.hash == Hash.of(archive) == nar.hash(tree) == nar.hash(str(tree))
    assert nar.hash(tree, algorithm="sha512") == Hash.of(archive, "sha512")
    assert packed(tree) == archive
    read = nar.unpack(archive, tmp_path / "copy", listing=True)
    assert (read.size, read.hash, read.listing) == (written.size, written.hash, written.listing)
    assert contents_of(tmp_path / "copy") == contents_of(tree)
    nar.unpack(tmp_path / "tree.nar", tmp_path / "store", canonical=True)
    assert (tmp_path / "store/README").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "store/README").stat().st_mtime == 1


TREES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.binary(max_size=300), st.tuples(st.binary(max_size=50)), st.text("abc/.", min_size=1, max_size=20)),
    lambda trees: st.dictionaries(st.text("abcé ", min_size=1, max_size=5), trees, max_size=4),
    max_leaves=12,
)


def make(tree: Any, path: Path) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, below in tree.items():
            make(below, path / name)
    elif isinstance(tree, str):
        path.symlink_to(tree)
    elif isinstance(tree, tuple):
        path.write_bytes(tree[0])
        path.chmod(0o755)
    else:
        path.write_bytes(tree)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(tree=TREES)
def test_any_tree_goes_round(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    make(tree, folder / "tree")
    archive = packed(folder / "tree")
    nar.unpack(archive, folder / "copy")
    assert contents_of(folder / "copy") == contents_of(folder / "tree")
    assert packed(folder / "copy") == archive
    listing = nar.listing(archive)
    assert listing == nar.Listing.parse(listing.to_json())
    for node in listing.values():
        if node.type == "regular":
            assert nar.open(archive, node.path).read() == (folder / "tree" / node.path).read_bytes()


SOURCES: "dict[str, Callable[[bytes, Path], Any]]" = {
    "bytes": lambda data, path: data,
    "bytearray": lambda data, path: bytearray(data),
    "memoryview": lambda data, path: memoryview(data),
    "array": lambda data, path: array.array("Q", data),
    "slice": lambda data, path: memoryview(b"x" + data + b"y")[1:-1],
    "BytesIO": lambda data, path: io.BytesIO(data),
    "path": lambda data, path: path,
    "str": lambda data, path: str(path),
    "file": lambda data, path: path.open("rb"),
    "raw file": lambda data, path: path.open("rb", buffering=0),
    "mmap": lambda data, path: mmap.mmap(os.open(path, os.O_RDONLY), 0, access=mmap.ACCESS_READ),
    "only read": lambda data, path: type("Source", (), {"read": staticmethod(io.BytesIO(data).read)})(),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_all_kinds_of_sources_are_read(kind: str, tree: Path, tmp_path: Path) -> None:
    archive = packed(tree)
    (tmp_path / "nar").write_bytes(archive)

    def source() -> Any:
        return SOURCES[kind](archive, tmp_path / "nar")

    assert nar.check(source()).hash == Hash.of(archive)
    assert nar.listing(source()) == nar.listing(archive)
    nar.unpack(source(), tmp_path / "copy")
    assert contents_of(tmp_path / "copy") == contents_of(tree)
    if kind != "only read":
        with nar.open(source(), "bin/hello") as file:
            assert file.read() == b"#!/bin/sh\necho hello\n"


@pytest.mark.parametrize("name", ["zstd", "xz", "bzip2", "gzip", "lz4", "zstd:19", "lzma"])
def test_compressed_archives_are_recognised(name: str, tree: Path, tmp_path: Path) -> None:
    archive = packed(tree)
    seen = nar.pack(tree, tmp_path / "compressed", compression=name)
    assert seen.hash == Hash.of(archive)
    data = (tmp_path / "compressed").read_bytes()
    assert data != archive
    undo = {"xz": lzma.decompress, "lzma": lzma.decompress, "bzip2": bz2.decompress, "gzip": gzip.decompress}
    if name in undo:
        assert undo[name](data) == archive
    for source in (data, tmp_path / "compressed", io.BytesIO(data)):
        assert nar.check(source).hash == seen.hash
        if isinstance(source, io.BytesIO):
            source.seek(0)
        assert nar.open(source, "README").read() == b"All about hello.\n"
    with pytest.raises(KeyError):
        nar.open(data, "absent")
    with pytest.raises(IsADirectoryError):
        nar.open(data, "bin")


def test_events_say_what_an_archive_says(tree: Path) -> None:
    (tree / "large").write_bytes(b"0123456789")
    os.rmdir(os.fsencode(tree) + b"/\xff\xfe")
    events = list(nar.events(packed(tree)))
    shown = [bytes(event) if isinstance(event, nar.Contents) else event for event in events]
    assert shown == [
        nar.Directory(""),
        nar.File("README", False, 17),
        b"All about hello.\n",
        nar.Directory("bin"),
        nar.File("hello", True, 21),
        b"#!/bin/sh\necho hello\n",
        nar.Symlink("hi", "hello"),
        nar.End(),
        nar.Directory("empty"),
        nar.End(),
        nar.File("large", False, 10),
        b"0123456789",
        nar.File("nothing", False, 0),
        nar.End(),
    ]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_contents_are_views_of_the_buffer(kind: Any, tree: Path) -> None:
    archive = packed(tree)
    buffer = kind(archive)
    for event in nar.events(buffer):
        if isinstance(event, nar.Contents):
            view = event.contents
            assert isinstance(view, memoryview)
            assert view.obj is (archive if kind is memoryview else buffer)
            assert view == archive[event.offset : event.offset + len(event)]
            assert view.readonly == (kind is not bytearray)


def test_a_buffer_that_changes_during_the_read_is_read_as_it_is(tree: Path) -> None:
    buffer = bytearray(packed(tree))
    events = nar.events(buffer)
    next(events)
    buffer[:] = bytes(len(buffer))
    with pytest.raises(NarError):
        list(events)
    assert list(events) == []
    with pytest.raises(BufferError):
        buffer.append(1)  # the buffer is held
    del events
    buffer.append(1)


def test_faults_have_offsets(tree: Path) -> None:
    archive = packed(tree)
    for bad, offset in [(archive[:200], 200), (archive + b"x", len(archive)), (b"x" + archive[1:], 0)]:
        for read in (nar.check, nar.listing, lambda bad: list(nar.events(bad))):
            with pytest.raises(NarError) as raised:
                read(bad)
            assert raised.value.offset == offset


def test_damaged_compression_is_told(tree: Path) -> None:
    data = packed(tree, compression="zstd")
    with pytest.raises(CompressionError):
        nar.check(data[:-20])


def test_a_listing_is_a_mapping(tree: Path) -> None:
    listing = nar.pack(tree, listing=True).listing
    assert listing is not None and len(listing) == len(list(listing)) == 9
    assert list(listing)[:3] == ["", "README", "bin"]
    hello = listing["bin/hello"]
    assert (hello.type, hello.size, hello.executable, hello.target) == ("regular", 21, True, None)
    assert listing["bin/hi"].target == "hello" and listing[""].type == "directory"
    assert listing["/bin//hello/"] == hello and listing.get(Path("bin/hello")) == hello
    assert "bin/nothing" not in listing and listing.get("bin/nothing") is None and listing.get("x", 3) == 3
    assert [node.path for node in listing.children("bin")] == ["bin/hello", "bin/hi"]
    assert dict(listing.items())["bin/hello"] == hello
    assert os.fsdecode(b"\xff\xfe") in listing
    with pytest.raises(KeyError):
        listing["absent"]
    with pytest.raises(NotADirectoryError):
        listing.children("README")


def test_references_are_found_in_the_same_pass(tmp_path: Path) -> None:
    paths = [StorePath(f"{digit * 32}-p") for digit in "abc"]
    (tmp_path / "file").write_text(f"at {paths[2].display()} and {paths[0].hash_part}")
    seen = nar.pack(tmp_path / "file", candidates=paths)
    assert seen.references == (paths[0], paths[2])
    assert nar.check(packed(tmp_path / "file"), candidates=paths).references == seen.references


def test_a_member_is_a_file_object(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "nar").write_bytes(packed(tree))
    data = (tree / "large").read_bytes()
    for source in (tmp_path / "nar", packed(tree), (tmp_path / "nar").open("rb")):
        with nar.open(source, "large") as file:
            assert isinstance(file, io.RawIOBase) and file.readable() and file.seekable() and not file.writable()
            assert len(file) == len(data) and file.name == "large"
            assert file.seek(-10, os.SEEK_END) == len(data) - 10 and file.read() == data[-10:]
            assert file.read() == b"" and file.seek(len(data) + 5) and file.read(3) == b""
            target = bytearray(300)
            assert file.seek(7) == 7 and file.readinto(target) == 300 and target == data[7:307] and file.tell() == 307
            with pytest.raises(OSError):
                file.seek(-1)
            buffered = io.BufferedReader(file)
            buffered.seek(1000)
            assert buffered.read(5000) == data[1000:6000]
        with pytest.raises(ValueError):
            file.read()
    listing = nar.listing(packed(tree))
    with nar.open(tmp_path / "nar", "README", listing=listing) as file:
        assert io.TextIOWrapper(io.BufferedReader(file)).read() == "All about hello.\n"
    for member, error in [("absent", KeyError), ("bin", IsADirectoryError), ("bin/hi", OSError)]:
        with pytest.raises(error):
            nar.open(tmp_path / "nar", member)


def test_file_objects_that_fail_are_heard(tree: Path, tmp_path: Path) -> None:
    class Full(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise RuntimeError("full")

    class Slow(io.RawIOBase):
        taken = b""

        def write(self, data: Any) -> int:
            Slow.taken += bytes(data[:1000])
            return min(1000, len(data))

    class Broken:
        def read(self, size: int = 0, /) -> bytes:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="full"):
        nar.pack(tree, Full())
    with pytest.raises(RuntimeError, match="broken"):
        nar.unpack(Broken(), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    nar.pack(tree, Slow())
    assert Slow.taken == packed(tree)
    with pytest.raises(TypeError, match="binary"):
        nar.check(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        nar.check(3)  # type: ignore[arg-type]
    with pytest.raises(SourceError):
        nar.pack(tree, tmp_path / "no/such/directory")

