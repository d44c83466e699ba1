"""What tests share: real Nix, trees, and data from other implementations."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent


def skip(reason: str) -> None:
    """Skips, aloud; in CI, what was not compared must not look as if it had passed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Nix:
    """One installed version of Nix, with a store of its own."""

    def __init__(self, bin: Path, state: Path) -> None:
        self.bin = bin
        self.state = state.resolve()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("NIX_")}
        self.environment.update(
            HOME=str(self.state / "home"),
            NIX_CONF_DIR=str(self.state / "etc"),
            NIX_CONFIG="build-users-group =\nsandbox = false\nexperimental-features = nix-command flakes",
            NIX_REMOTE=f"local?root={self.state / 'root'}",
        )
        for name, folder in [("CACHE", ".cache"), ("CONFIG", ".config"), ("DATA", ".local/share"), ("STATE", ".local/state")]:
            self.environment[f"XDG_{name}_HOME"] = str(self.state / "home" / folder)

    @property
    def root(self) -> Path:
        return self.state / "root"

    @property
    def database(self) -> Path:
        return self.root / "nix/var/nix/db/db.sqlite"

    def run(self, program: str, *arguments: object, stdin: bytes = b"") -> bytes:
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(command, input=stdin, env=self.environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def add_built(self, path: str, tree: Path) -> str:
        """Puts a tree into the store as if a builder had made it: its path does not depend on its contents."""
        from nixcache import nar

        seen = nar.pack(tree)
        place = Path(f"{self.root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", tree, place], check=True)
        registration = f"{path}\n{seen.hash.display_digest('base16')}\n{seen.size}\n\n0\n"
        self.run("nix-store", "--load-db", stdin=registration.encode())
        return path

    def text(self, program: str, *arguments: object, stdin: bytes = b"") -> str:
        return self.run(program, *arguments, stdin=stdin).decode().strip()


def _bins() -> list[Path]:
    listed = [Path(bin) for bin in os.environ.get("NIXCACHE_NIX", "").split(":") if bin]
    on_path = [Path(bin) for bin in os.environ.get("PATH", "").split(":") if (Path(bin) / "nix-store").is_file()]
    return list(dict.fromkeys(listed or on_path[:1]))


@pytest.fixture(params=[*_bins(), None][: max(1, len(_bins()))], ids=lambda bin: str(bin) if bin else "none")
def nix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Nix:
    if request.param is None:
        skip("no real Nix to compare with: install one, or name its bin directory in NIXCACHE_NIX")
    return Nix(request.param, tmp_path_factory.mktemp("nix"))


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Data gathered from other implementations, which is not part of the project."""
    named = os.environ.get("NIXCACHE_VECTORS")
    folder = Path(named) if named else PROJECT.parent.parent.parent / "shared/vectors"
    if not folder.is_dir():
        pytest.skip("no vectors beside the project")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with all that a NAR can hold."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    hello = root / "bin/hello"
    hello.write_bytes(b"#!/bin/sh\necho hello\n")
    hello.chmod(0o755)
    (root / "bin/hi").symlink_to("hello")
    (root / "nothing").write_bytes(b"")
    (root / "README").write_text("All about hello.\n")
    (root / "large").write_bytes(bytes(range(256)) * 4096)
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    return root


@pytest.fixture
def peak() -> Callable[[], int]:
    """The most memory that the process had since the last call, in bytes; skips where the system does not say."""

    def measure() -> int:
        status = Path("/proc/self/status").read_text()
        high = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")
        return int(high.split()[1]) * 1024

    try:
        measure()
    except (OSError, StopIteration):
        pytest.skip("the system does not tell how much memory is used at most")
    return measure


TEXT = """\
StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz
Compression: xz
FileHash: sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d
FileSize: 114980
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
Deriver: 10dx1q4ivjb115y3h90mipaaz533nr0d-net-tools-1.60_p20170221182432.drv
Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==
"""
KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="


def digits(number: int) -> str:
    """A hash part for tests."""
    alphabet = "0123456789abcdfghijklmnpqrsvwxyz"
    text = ""
    for _ in range(32):
        number, digit = divmod(number, 32)
        text = alphabet[digit] + text
    return text


def infos(count: int) -> Iterator[Any]:
    """Narinfos of paths in a chain: each refers to the one before it and to itself."""
    from nixcache import Hash, NarInfo, StorePath

    path = None
    for number in range(count):
        before, path = path, StorePath(f"{digits(number)}-p{number}")
        yield NarInfo.build(
            path,
            url=f"nar/{number}.nar",
            nar_hash=Hash.of(str(number).encode()),
            nar_size=1000 + number,
            references=[other for other in (before, path) if other],
        )
