"""No copies, no leaks, threads in parallel, Ctrl-C, quick to import, and no crash for any arguments."""

from __future__ import annotations

import gc
import hashlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import TEXT

import nixcache
from nixcache import NarInfo, nar


def framed(size: int) -> "tuple[bytes, bytes]":
    """What stands before and after the contents of a single file."""
    words = [b"nix-archive-1", b"(", b"type", b"regular", b"contents"]
    before = b"".join(len(word).to_bytes(8, "little") + word + bytes(-len(word) % 8) for word in words)
    return before + size.to_bytes(8, "little"), bytes(-size % 8) + b"\1" + bytes(7) + b")" + bytes(7)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_events_copy_nothing_of_a_gibibyte(kind: Any, peak: Callable[[], int]) -> None:
    size = 1 << 30
    before, after = framed(size)
    buffer: Any = bytearray(len(before) + size + len(after))
    buffer[: len(before)], buffer[-len(after) :] = before, after
    if kind is bytes:
        buffer = bytes(buffer)
    gc.collect()
    peak()
    base = peak()
    events = list(nar.events(buffer))
    grown = peak() - base
    assert grown < 1 << 20, grown
    contents = events[1].contents  # type: ignore[union-attr]
    assert contents.obj is buffer and len(contents) == size


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_million_parses_do_not_grow_memory() -> None:
    data = TEXT.encode()

    def parse(count: int) -> None:
        for _ in itertools.repeat(None, count):
            NarInfo.parse(data)

    def use(count: int) -> None:
        for _ in range(count):
            info = NarInfo.parse(data)
            _ = info.references, info.nar_hash, info.signatures, info.deviations, info.deriver, repr(info)
            try:
                NarInfo.parse(b"x")
            except ValueError:
                pass

    parse(1000)
    use(1000)
    before = resident()
    parse(1_000_000)
    use(50_000)
    assert resident() - before < 1 << 20


def test_eight_threads_hash_in_parallel(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 << 20))

    def measure(work: Callable[[], object]) -> float:
        """How many processors eight threads of this kept busy."""
        workers = [threading.Thread(target=work) for _ in range(8)]
        start, used = time.perf_counter(), time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return (time.process_time() - used) / (time.perf_counter() - start)

    # hashlib gives up the interpreter, so its rate is what the machine allows at the moment.
    data = bytes(64 << 20)
    best = max(
        measure(lambda: nar.hash(tmp_path / "file", threads=1)) / measure(lambda: hashlib.sha256(data)) for _ in range(3)
    )
    assert best > 0.8, best


def test_other_threads_run_while_one_hashes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(256 << 20))
    turns, stop = 0, threading.Event()

    def count() -> None:
        nonlocal turns
        while not stop.is_set():
            turns += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    nar.hash(tmp_path / "file")
    stop.set()
    counter.join()
    assert turns > 10


INTERRUPTED = {
    "hash": "nar.hash(sys.argv[1])",
    "pack": "nar.pack(sys.argv[1])",
    "check": "nar.check(Endless())",
    "unpack": "nar.unpack(Endless(), sys.argv[1] + '-copy')",
    "Hash.of": "nixcache.Hash.of(Endless())",
    "buffer": "nar.check(memoryview(bytearray(BEFORE + bytes(1 << 28))))\nwhile True: nixcache.Hash.of(bytes(1 << 28))",
    "cache": "nixcache.Cache('http://127.0.0.1:9', retries=1000)",
}
SCRIPT = """
import signal, sys, time, nixcache
from nixcache import nar
# A shell starts what runs in the background with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
BEFORE = bytes.fromhex({before!r})
class Endless:
    given = False
    def read(self, size):
        if not self.given:
            self.given = True
            return BEFORE
        return bytes(size)
print("ready", flush=True)
try:
    while True:
        try:
            {call}
        except (nixcache.NarError, nixcache.UnpackError):
            pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("name", INTERRUPTED)
def test_ctrl_c_ends_long_calls(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    call = INTERRUPTED[name].replace("\n", "\n            ")
    script = SCRIPT.format(before=framed(1 << 50)[0].hex(), call=call)
    process = subprocess.Popen([sys.executable, "-c", script, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.7)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        out, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert out == "interrupted\n", error
    assert time.monotonic() - start < 5
    assert not (tmp_path / "source-copy").exists()


def test_import_is_quick() -> None:
    script = "import time; start = time.perf_counter(); import nixcache; print(time.perf_counter() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(7)]
    assert min(times) < 0.020, times


def test_there_are_no_dependencies() -> None:
    from importlib import metadata

    try:
        assert not metadata.requires("nixcache")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed")


ODD: "list[Any]" = [
    None, True, -1, 0, 2**64, 1.5, "", "\0", "\ud800", "x" * 10000, b"", b"\0" * 100, bytearray(b"x"), memoryview(b"abcd")[::2],
    memoryview(b"12345678").cast("Q"), [], [None], (), {}, {"a": 1}, object(), type, int, io.StringIO("x"), io.BytesIO(b"x"), Ellipsis,
    lambda *rest: None, NarInfo.parse(TEXT), nixcache.TrustedKeys(), nixcache.Graph.from_narinfos([]), iter([1]), range(3), "/dev/null",
]  # fmt: skip


def test_nothing_that_is_passed_crashes_the_interpreter() -> None:
    """For all arguments, the worst outcome is an exception, and never the one of a panic."""
    calls = 0
    classes = [kind for kind in (*vars(nixcache).values(), *vars(nar).values()) if isinstance(kind, type)]
    targets: list[Any] = [getattr(nar, name) for name in nar.__all__] + classes
    objects = [value for value in ODD if type(value).__module__ == "nixcache"]
    objects += [nixcache.SecretKey.generate("x"), nixcache.Hash.of(b""), nar.pack("/dev/null/..") if False else nixcache.StorePath(f"{'0' * 32}-x")]
    for value in [*objects, *classes]:
        for name in dir(value):
            if name not in ("__class__", "__reduce__", "__reduce_ex__", "__subclasshook__", "__init_subclass__", "__new__", "__init__", "generate"):
                method = getattr(value, name, None)
                if callable(method) and not isinstance(method, type):
                    targets.append(method)
    for target in targets:
        if isinstance(target, type) and issubclass(target, (BaseException, nar.Member)):
            continue
        for arguments in itertools.chain([()], ((one,) for one in ODD), itertools.product(ODD[::3], ODD[1::4])):
            if target is nar.pack and len(arguments) == 2 and isinstance(arguments[1], str):
                continue
            if target is nar.unpack and len(arguments) == 2 and isinstance(arguments[1], (str, bytes)):
                continue
            try:
                target(*arguments)
            except Exception:
                pass
            calls += 1
    assert calls > 5000
