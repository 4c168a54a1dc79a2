# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments for tests of the installation: ones that look complete, and the real one of this machine."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bl_ext.dev.unrender.backend.environment import BACKEND, STAMP, Environment, home, pins

GPU = {"passed": True, "device": "NVIDIA GeForce RTX 4090", "memory": 25_757_220_864, "psnr": 22.5}


def write(base: Path, test: dict[str, Any] | None = None, **stamp: Any) -> Environment:
    """An environment that looks complete from outside, with the outcome of a self-test if one is given."""
    environment = Environment(BACKEND, base=base)
    packages = environment.folder / "lib" / "python3" / "site-packages"
    if sys.platform == "win32":
        packages = environment.folder / "Lib" / "site-packages"
    for name, version in pins(BACKEND.requirements).items():
        info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text("x" * 100)
    environment.interpreter.parent.mkdir(parents=True)
    environment.interpreter.symlink_to(sys.executable)
    (environment.folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    check = {"torch": "2.13.0", "device": "cpu", "cuda": False}
    noted = {"folder": str(environment.folder), "torch_index": "", "check": check, **stamp}
    (environment.folder / STAMP).write_text(json.dumps(noted))
    if test is not None:
        environment.note_self_test(test)
    return environment


def real_python() -> Path:
    """The Python of a real backend, of whatever version: the tests' own environment."""
    found = sorted((home() / "environments").glob("backend-*/bin/python"))
    if not found:
        pytest.skip("needs the backend's environment: python3 -m backend install")
    return found[0]


def link_real(base: Path) -> Environment:
    """The packages of the real environment in one of our own, which may be broken and repaired."""
    environment = Environment(BACKEND, base=base)
    real = Environment(BACKEND)
    if real.defect():
        pytest.skip("needs a backend environment of this Python")
    (environment.folder / "lib").mkdir(parents=True)
    (environment.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").symlink_to(
        real.interpreter.parents[1] / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    environment.interpreter.parent.mkdir()
    environment.interpreter.symlink_to(sys.executable)
    (environment.folder / "pyvenv.cfg").write_text((real.folder / "pyvenv.cfg").read_text())
    stamp = {**real.stamp(), "folder": str(environment.folder)}
    (environment.folder / STAMP).write_text(json.dumps(stamp))
    return environment


def share_kernels(base: Path) -> None:
    """Lets `base` use the kernels that were compiled before: compiling them is what takes time."""
    compiled = home() / "cache"
    compiled.mkdir(parents=True, exist_ok=True)
    base.mkdir(parents=True, exist_ok=True)
    (base / "cache").symlink_to(compiled)
