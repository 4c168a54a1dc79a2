# SPDX-License-Identifier: GPL-3.0-or-later
"""Formatting, lint and types of everything, as pyproject.toml sets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    name for name in ("backend", "operators", "panels", "tests", "demo", "__init__.py") if (ROOT / name).exists()
]

for tool in ("ruff", "mypy"):
    pytest.importorskip(tool, reason=f"{tool} is not installed here")


def check(*command: str, cwd: Path = ROOT) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        # Blender's stubs spell out enumerations of a thousand icons in one line.
        lines = [line[:300] for line in (result.stdout + result.stderr).splitlines()[-60:]]
        pytest.fail("\n".join([" ".join(command[:2]), *lines]), pytrace=False)


def test_formatted() -> None:
    check("ruff", "format", "--check", *SOURCES)


def test_lint() -> None:
    check("ruff", "check", *SOURCES)


def test_types_of_the_backend() -> None:
    check("mypy")


def test_types_of_the_blender_side(tmp_path: Path) -> None:
    # As an extension, the repository is one package, whatever its folder is called.
    package = tmp_path / "unrender"
    package.mkdir()
    for name in ("__init__.py", "operators", "panels", "backend"):
        if (ROOT / name).exists():
            (package / name).symlink_to(ROOT / name)
    if not (package / "__init__.py").exists():
        pytest.skip("no extension here")
    config = f"--config-file={ROOT / 'pyproject.toml'}"
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'extension'}"
    check("mypy", config, cache, "-p", "unrender.operators", "-p", "unrender.panels", "-m", "unrender", cwd=tmp_path)
