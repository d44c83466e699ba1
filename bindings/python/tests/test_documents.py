"""What people copy works: the README and the examples."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import infos

import nixcache
from nixcache import Cache, NarInfo, SecretKey, TrustedKeys, nar

PROJECT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.main


def test_the_readme_says_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hello = tmp_path / "hello"
    (hello / "bin").mkdir(parents=True)
    (hello / "share").mkdir()
    (hello / "bin/hello").write_text("#!/bin/sh\necho hello\n")
    (hello / "bin/hello").chmod(0o755)
    (hello / "share/README").write_text("All about hello.\n")
    tests = doctest.DocTestParser().get_doctest((PROJECT / "README.md").read_text(), {}, "README.md", "README.md", 0)
    assert len(tests.examples) > 20
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.DocTestRunner(optionflags=flags).run(tests)
    assert results.failed == 0


@pytest.mark.parametrize("kind", ["Hash", "StorePath"])
def test_docstrings_say_what_happens(kind: str) -> None:
    text = getattr(nixcache, kind).__doc__
    tests = doctest.DocTestParser().get_doctest(text, {}, kind, kind, 0)
    assert tests.examples and doctest.DocTestRunner().run(tests).failed == 0


def example(name: str, *arguments: object, status: int = 0) -> str:
    command = [sys.executable, str(PROJECT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def key() -> SecretKey:
    return SecretKey.generate("test-1")


@pytest.fixture
def cache(tmp_path: Path, tree: Path, key: SecretKey) -> Path:
    Cache(tmp_path / "cache", create=True).push(add={"tree": tree, "other": tree / "bin"}, keys=[key])
    return tmp_path / "cache"


def test_a_cache_is_verified(cache: Path, key: SecretKey) -> None:
    public = key.public_key
    assert "2 paths, all of them good" in example("verify_cache.py", cache, public)
    info = next(iter(Cache(cache)))
    forged = NarInfo.parse(str(info).replace("CA:", "Unknown:")).unsign("test-1")
    (cache / f"{info.store_path.hash_part}.narinfo").write_text(str(forged))
    assert f"{info.store_path}" in example("verify_cache.py", cache, public, status=1)


def test_a_push_is_listed(cache: Path, tmp_path: Path) -> None:
    records = [
        {"path": info.store_path.display(), "narHash": f"{info.nar_hash:sri}", "narSize": info.nar_size,
         "references": [reference.display() for reference in info.references]}
        for info in infos(3)
    ]  # fmt: skip
    (tmp_path / "infos.json").write_text(json.dumps(records))
    out = example("list_missing.py", cache, records[2]["path"], "--source", f"json:{tmp_path / 'infos.json'}")
    assert [line.split()[0] for line in out.splitlines()[:3]] == [record["path"] for record in records]


def test_who_brings_in_a_dependency_is_found(tmp_path: Path) -> None:
    records = {info.store_path: info for info in infos(5)}
    paths = list(records)
    text = "".join(
        f"{path.display()}\n{info.nar_hash.display_digest('base16')}\n{info.nar_size}\n\n{len(info.references)}\n"
        + "".join(f"{reference.display()}\n" for reference in info.references)
        for path, info in records.items()
    )
    (tmp_path / "registration").write_text(text)
    source = f"registration:{tmp_path / 'registration'}"
    out = example("why_depends.py", paths[4].display(), "p2", "--source", source)
    assert [line.strip() for line in out.splitlines()] == ["p4", "p3", "p2"]
    assert "nothing" in example("why_depends.py", paths[4].display(), "absent", "--source", source, status=1)


def test_a_cache_is_signed_anew(cache: Path, tmp_path: Path) -> None:
    new = SecretKey.generate("new-1")
    (tmp_path / "secret").write_text(new.to_text())
    assert "2 of 2" in example("resign_cache.py", cache, tmp_path / "secret", "--remove", "test-1")
    verdicts = TrustedKeys(new.public_key).verify_many(Cache(cache))
    assert [verdict.keys for verdict in verdicts] == [("new-1",), ("new-1",)]
    assert "0 of 2" in example("resign_cache.py", cache, tmp_path / "secret", "--remove", "test-1")


def test_one_file_is_read_out_of_a_nar(tree: Path, tmp_path: Path) -> None:
    nar.pack(tree, tmp_path / "tree.nar.zst", compression="zstd")
    nar.pack(tree, tmp_path / "tree.nar")
    for name in ("tree.nar", "tree.nar.zst"):
        assert example("read_member.py", tmp_path / name, "README") == "All about hello.\n"
    assert "absent" in example("read_member.py", tmp_path / "tree.nar", "absent", status=1)
    assert os.path.exists(tmp_path / "tree.nar")
