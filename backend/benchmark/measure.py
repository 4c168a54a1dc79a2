# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a benchmark: a capture reconstructed and evaluated, and the figures of both."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..capture import read_capture
from ..console import Console, JobPrinter
from ..errors import UserError
from ..job_folder import EventReader, JobFolder
from .child import run_backend, run_child

HOLDOUT = 8
"""Every so many views are kept for evaluation where a capture has no test split."""

EVALUATED = (
    "views",
    "psnr",
    "ssim",
    "flat_color_psnr",
    "silhouette_iou",
    "lpips",
    "triangles",
    "chamfer_pct_diag",
    "normal_deg",
    "base_color_psnr_aligned",
    "base_color_psnr",
    "roughness_rmse",
    "metallic_iou",
    "relight_psnr_aligned",
    "relight_psnr",
    "environment_error",
    "notes",
)
"""What is taken over from an evaluation."""

Figures = dict[str, Any]
"""Of one run: "wall_seconds", "seconds" and "steps_per_second" by stage, peak memory, and what EVALUATED names; None,
or no key, where there is none; "failed" with one line where the run failed."""


@dataclass(frozen=True)
class Plan:
    """What all runs of a benchmark have in common; as the options of the command have them."""

    preset: str
    device: str
    sets: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    max_views: int | None = None
    hdris: Path | None = None


def measure(capture: Path, job: Path, plan: Plan, console: Console, without: Sequence[str] = ()) -> Figures:
    """Reconstruct `capture` into the folder `job` and evaluate the result; `without` turns off more than the plan."""
    figures: Figures = {}
    try:
        arguments = _reconstruct_arguments(capture, job, plan, without)
        ended = run_backend(arguments, _Watch(job, console))
        figures |= {"wall_seconds": round(ended.seconds, 2), "peak_cpu_memory_bytes": ended.peak_memory}
        if ended.problem:
            raise UserError(ended.problem)
        figures |= read_figures(json.loads((JobFolder(job).result / "report.json").read_text(encoding="utf-8")))
        console.update("evaluate", "the held-out views")
        ended = run_backend(_evaluate_arguments(capture, job, plan))
        if ended.problem:
            raise UserError(ended.problem, where="evaluate")
        found = json.loads(ended.output)
        figures |= {key: found[key] for key in EVALUATED if key in found}
    except (UserError, OSError, ValueError) as error:
        figures["failed"] = " ".join(str(error).split())
    finally:
        for task in ("reconstruct", "evaluate"):
            console.done(task)
    return figures


def read_figures(report: Mapping[str, Any]) -> Figures:
    """What a report.json tells of time and memory."""
    seconds, settings = report.get("seconds", {}), report.get("settings", {})
    steps = {stage: settings[f"{stage}_steps"] for stage in seconds if f"{stage}_steps" in settings}
    return {
        "seconds": seconds,
        "steps_per_second": {
            stage: round(count / seconds[stage], 2) for stage, count in steps.items() if count and seconds[stage]
        },
        "peak_gpu_memory_bytes": report.get("peak_gpu_memory_bytes"),
        "device": report.get("device"),
    }


def machine() -> dict[str, Any]:
    """Name, processors and GPU of this machine. Asks a process of its own: torch would make this one large."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    return {
        "name": platform.node(),
        "cpu_cores": os.cpu_count(),
        "gpu": run_child([sys.executable, "-P", "-c", ask], dict(os.environ)).output.strip() or None,
    }


def _reconstruct_arguments(capture: Path, job: Path, plan: Plan, without: Sequence[str]) -> list[str]:
    arguments = ["reconstruct", str(capture), "--out", str(job), "--stop-with-parent"]
    arguments += ["--preset", plan.preset, "--device", plan.device]
    if not read_capture(capture).split("test"):
        arguments += ["--holdout", str(HOLDOUT)]
    arguments += [f"--set={pair}" for pair in plan.sets]
    return arguments + [f"--without={name}" for name in (*plan.without, *without)]


def _evaluate_arguments(capture: Path, job: Path, plan: Plan) -> list[str]:
    arguments = ["evaluate", str(job), str(capture), "--device", plan.device]
    if plan.max_views is not None:
        arguments += ["--max-views", str(plan.max_views)]
    if plan.hdris is not None:
        arguments += ["--hdris", str(plan.hdris)]
    return arguments


class _Watch:
    """Shows what a job reports while it runs."""

    def __init__(self, job: Path, console: Console) -> None:
        self.reader, self.printer = EventReader(job), JobPrinter(console)
        while self.reader.poll():
            pass  # of an earlier job in this folder

    def __call__(self) -> None:
        for event in self.reader.poll():
            self.printer(event)
