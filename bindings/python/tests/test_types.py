"""The types are complete, and are those that the module has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nixcache

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = Path(nixcache.__file__).parent
pytestmark = pytest.mark.main


def run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_nothing() -> None:
    run(sys.executable, "-m", "mypy", "--strict", "--no-incremental", "-p", "nixcache")
    run(sys.executable, "-m", "mypy", "--strict", "--no-incremental", "examples", "benches", "fuzz")


def test_pyright_finds_nothing() -> None:
    if shutil.which("pyright") is None:
        pytest.skip("no pyright here")
    run("pyright", "--pythonpath", sys.executable, PACKAGE)
    run("pyright", "--pythonpath", sys.executable, "examples")


def test_stubs_and_module_agree() -> None:
    run(sys.executable, "-m", "mypy.stubtest", "nixcache", "--allowlist", "tests/stubtest-allowlist")


def test_the_types_are_installed() -> None:
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "__init__.pyi").exists() and (PACKAGE / "nar.pyi").exists()
