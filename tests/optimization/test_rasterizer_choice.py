# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasterizer that was chosen draws in every stage.

nvdiffrast itself needs CUDA and an installation of its own, so a stand-in that counts its calls and passes them to the
Warp kernels takes its place here; that both draw the same is what tests/kernels/test_nvdiffrast.py holds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.errors import UserError
from backend.job import Job
from backend.kernels.primitives import RASTERIZERS, WARP, Primitives, check_rasterizer
from backend.optimization import pipeline
from backend.optimization.settings import CHOICES, Settings
from tests.optimization.synthetic import SETTINGS, write_capture

PRIMITIVES = [field.name for field in dataclasses.fields(Primitives)]
STEPS = {"shape_steps": 2, "surface_steps": 2, "texture_steps": 2}


def stand_in(calls: Counter[str], stage: Callable[[], str]) -> Primitives:
    """The Warp primitives, counting under (stage, name)."""

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls[f"{stage()} {name}"] += 1
            return getattr(WARP, name)(*arguments)

        return call

    return Primitives(*map(counted, PRIMITIVES))


def test_settings_name_the_rasterizers_there_are() -> None:
    assert list(CHOICES["rasterizer"]) == list(RASTERIZERS)


def test_the_choice_reaches_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    stage = ["none"]
    checked = []
    for name in ("shape", "surface", "texture"):
        run = getattr(pipeline, f"run_{name}_stage")

        def wrapped(*arguments: Any, name: str = name, run: Callable[..., None] = run, **more: Any) -> None:
            stage[0] = name
            run(*arguments, **more)
            stage[0] = "none"

        monkeypatch.setattr(pipeline, f"run_{name}_stage", wrapped)
    monkeypatch.setitem(RASTERIZERS, "nvdiffrast", stand_in(calls, lambda: stage[0]))
    monkeypatch.setattr(pipeline, "check_rasterizer", lambda name, device: checked.append((name, device.type)))
    capture = write_capture(tmp_path / "capture", train=6, test=1, size=32)
    settings = Settings.from_preset("draft", "cpu", {**SETTINGS, **STEPS, "rasterizer": "nvdiffrast"})
    with Job(tmp_path / "job", {}) as job:
        pipeline.reconstruct(capture, job, settings)
    assert checked == [("nvdiffrast", "cpu")]
    for name in ("shape", "surface", "texture"):
        for primitive in ("rasterize", "barycentrics_at", "interpolate", "antialias"):
            assert calls[f"{name} {primitive}"] >= 2, (name, primitive)
    assert calls["texture sample_texture"] >= 2


def test_what_is_missing_is_one_line_before_the_job_begins() -> None:
    check_rasterizer("warp", torch.device("cpu"))
    with pytest.raises(UserError, match="nvdiffrast needs an NVIDIA GPU") as error:
        pipeline.check_machine(Settings(rasterizer="nvdiffrast", device="cpu"))
    assert "\n" not in str(error.value)
