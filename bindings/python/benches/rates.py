"""How fast the package is: beside the Rust library, `nix` through a subprocess, and pynixutil.

    python benches/rates.py

Prints the table of the README. Needs the package and, for what is beside it, a Rust toolchain, `nix` on PATH, and
pynixutil from PyPI; missing ones are left out.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

from nixcache import Hash, NarInfo, SecretKey, StorePath, TrustedKeys, nar, nixbase32

PROJECT = Path(__file__).resolve().parents[3]
COUNT = 20_000


def best(work: Callable[[], object], runs: int = 5) -> float:
    """The shortest of several runs, in seconds."""
    times: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def narinfos(key: SecretKey) -> list[NarInfo]:
    """Shaped like those of a public cache: eight references, a deriver, one signature."""
    chance = random.Random(1)
    paths = [StorePath(f"{nixbase32.encode(chance.randbytes(20))}-package-{n}-1.2.3") for n in range(COUNT)]
    unsigned = [
        NarInfo.build(
            path,
            url=f"nar/{Hash.of(str(path).encode()).display_digest()}.nar.xz",
            compression="xz",
            file_hash=Hash.of(str(path).encode()),
            file_size=chance.randrange(1, 10**8),
            nar_hash=Hash.of(path.name.encode()),
            nar_size=chance.randrange(1, 10**9),
            references=chance.sample(paths, 8),
            deriver=StorePath(f"{path}.drv"),
        )
        for path in paths
    ]
    return [info.sign(signature) for info, signature in zip(unsigned, key.sign_many(unsigned))]


def tree(root: Path) -> Path:
    """1 GiB in eight files, and 5,000 small ones."""
    chance = random.Random(2)
    block = chance.randbytes(1 << 20)
    for number in range(8):
        with (root / f"large{number}").open("wb") as file:
            for _ in range(128):
                file.write(block)
    for number in range(5000):
        folder = root / f"small{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / str(number)).write_bytes(block[: chance.randrange(200, 6000)])
    return root


def rust(infos: list[NarInfo], key: SecretKey, root: Path, work: Path) -> dict[str, float]:
    if shutil.which("cargo") is None:
        return {}
    file = work / "narinfos"
    file.write_text("\n\n".join(str(info).rstrip("\n") for info in infos) + "\n\n")
    command = ["cargo", "run", "--quiet", "--release", "-p", "nixcache", "--example", "rates", "--"]
    command += [str(file), str(key.public_key), str(root)]
    out = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(rate) for name, rate in (line.split() for line in out.splitlines())}


def nix(*arguments: str, runs: int = 3) -> float | None:
    """The time that a command takes, if there is one."""
    if shutil.which("nix") is None:
        return None
    command = ["nix", "--extra-experimental-features", "nix-command", *arguments]
    times: list[float] = []
    for _ in range(runs):
        # A home of its own, so that nothing is remembered from one run to the next.
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home, "NIX_REMOTE": f"local?root={home}/root"}
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, env=environment)
            times.append(time.perf_counter() - start)
            if done.returncode != 0:
                return None
    return min(times)


def cache(infos: list[NarInfo], folder: Path) -> str:
    """A cache of these narinfos, without NARs."""
    folder.mkdir()
    (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    for info in infos:
        (folder / f"{info.store_path.hash_part}.narinfo").write_text(str(info))
    return f"file://{folder}"


def main() -> None:
    rows: list[tuple[str, str, str, str]] = []
    key = SecretKey.generate("bench-1")
    infos = narinfos(key)
    texts = [bytes(info) for info in infos]
    keys = TrustedKeys(key.public_key)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tree")
        root.mkdir()
        tree(root)
        # Each is measured twice, before and after Rust, because the load of the machine changes.
        size = nar.pack(root).size

        def ours() -> dict[str, float]:
            return {
                "parse": COUNT / best(lambda: [NarInfo.parse(text) for text in texts]),
                "verify": COUNT / best(lambda: keys.verify_many(infos)),
                "hash": size / best(lambda: nar.hash(root)),
            }

        first = ours()
        theirs = rust(infos, key, root, Path(folder))
        second = ours()
        mine = {name: max(first[name], second[name]) for name in first}

        def beside(name: str) -> str:
            return f"{mine[name] / theirs[name]:.0%} of Rust" if name in theirs else ""

        def per_second(rate: float) -> str:
            return f"{rate:,.0f}/s"

        url = cache(infos, Path(folder, "cache"))
        seconds = nix("path-info", "--all", "--json", "--store", url, runs=1)
        note = f"`nix path-info`: {per_second(COUNT / seconds)}" if seconds else ""
        rows.append(("`NarInfo.parse`", per_second(mine["parse"]), beside("parse"), note))
        trusted = ["--option", "trusted-public-keys", str(key.public_key)]
        seconds = nix("store", "verify", "--all", "--no-contents", "--store", url, *trusted, runs=1)
        note = f"`nix store verify`: {per_second(COUNT / seconds)}" if seconds else ""
        rows.append(("`TrustedKeys.verify_many`", per_second(mine["verify"]), beside("verify"), note))
        seconds = nix("hash", "path", str(root))
        rows.append(
            (
                "`nar.hash`, 1 GiB and 5,000 files",
                f"{mine['hash'] / 1e6:,.0f} MB/s",
                beside("hash"),
                f"`nix hash path`: {size / seconds / 1e6:,.0f} MB/s" if seconds else "",
            )
        )
        one = root / "small0"
        seconds = nix("hash", "path", str(one))
        call = best(lambda: nar.hash(one), 50)
        rows.append(
            (
                "`nar.hash`, 100 small files",
                f"{call * 1e3:.2f} ms",
                "",
                f"`nix hash path`: {seconds * 1e3:.0f} ms" if seconds else "",
            )
        )

    digest = Hash.of(b"").digest
    text = nixbase32.encode(digest)

    def rate(work: Callable[[], object]) -> float:
        def many() -> None:
            for _ in range(10_000):
                work()

        return 10_000 / best(many)

    try:
        import pynixutil  # type: ignore[import-untyped, unused-ignore]

        other: Any = pynixutil
    except ImportError:
        other = None
    for name, function, argument in [("encode", nixbase32.encode, digest), ("decode", nixbase32.decode, text)]:
        call_ours: Any = function
        speed = rate(lambda: call_ours(argument))
        note = ""
        if other is not None:
            # Its bit order differs from Nix's, so it can read only its own texts.
            call_other: Any = getattr(other, f"b32{name}")
            given = argument if isinstance(argument, bytes) else other.b32encode(digest).decode()
            note = f"`pynixutil.b32{name}`: {per_second(rate(lambda: call_other(given)))}, not Nix's text"
        rows.append((f"`nixbase32.{name}`, 32 bytes", per_second(speed), "", note))

    print(f"Python {sys.version.split()[0]}, {len(os.sched_getaffinity(0))} processors\n")
    print("| | here | beside Rust | beside others |\n|---|---:|---:|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
