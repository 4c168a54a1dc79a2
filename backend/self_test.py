# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows that the backend works on this machine: compiles its kernels, then reconstructs a ball in a few steps.

The kernels stay compiled, so that the first job of an artist does not wait for them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import pkgutil
import py_compile
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warp as wp
from PIL import Image

from . import geometry, kernels
from .capture import write_capture_json
from .capture.model import Camera, Capture, View
from .errors import UserError
from .job import Event, Job
from .optimization.pipeline import choose_device, reconstruct
from .optimization.settings import Settings

VIEWS, SIZE, DISTANCE = 8, 32, 3.0
# Enough steps to come near, on grids as small as the settings allow.
SMALL = {
    "carve_cells": 16,
    "carve_steps": 4,
    "grid_cells": 16,
    "shape_steps": 60,
    "surface_steps": 20,
    "texture_steps": 40,
    "target_triangles": 300,
    "texture_size": 64,
    "light_size": 8,
    "transport_size": 4,
    "table_size": 8,
    "preview_seconds": 0,
}
STAGES = ("prepare", "carve", "compare", "shape", "remesh", "cameras", "surface", "atlas", "texture", "export")
COMPILED = 0.6  # share of the time after which the kernels are compiled
LEAST_PSNR = 20.0  # one flat color has 17.5 dB, the stages reach 22.5

Report = Callable[[str, float], None]


def run_self_test(device_name: str, report: Report) -> dict[str, Any]:
    """Run it and return what was found; `report(text, share)` is told how far it is.

    Raises:
        UserError: something does not work as it must.
    """
    began = time.monotonic()
    device = choose_device(device_name)
    keep_bytecode()
    compile_kernels(device, lambda text, share: report(text, COMPILED * share))
    compiled = time.monotonic()
    psnr = reconstruct_ball(device, lambda text, share: report(text, COMPILED + (1.0 - COMPILED) * share))
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "memory": torch.cuda.get_device_properties(device).total_memory if cuda else 0,
        "psnr": round(psnr, 2),
        "compile_seconds": round(compiled - began, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def keep_bytecode() -> None:
    """Compile the libraries that a job imports to bytecode, which saves each job seconds.

    pip is told not to, because it would compile all there is, and processes that Blender starts write none, because
    an extension's folder is not theirs to write.
    """
    packages = Path(torch.__file__).parents[1]
    if not packages.is_relative_to(sys.prefix) or not os.access(packages, os.W_OK):
        return  # an interpreter of the user's own, whose packages stand elsewhere
    for module in list(sys.modules.values()):
        source = getattr(module, "__file__", None) or ""
        if source.endswith(".py") and Path(source).is_relative_to(packages):
            with contextlib.suppress(OSError):
                if not os.path.exists(importlib.util.cache_from_source(source)):
                    py_compile.compile(source, quiet=2)


def compile_kernels(device: torch.device, report: Report) -> None:
    """Compile every kernel module for the device that jobs use it on, several at once. Quick where that was done."""
    on_device = "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"
    jobs = [(name, on_device) for name in _modules(kernels)]
    jobs += [(name, "cpu") for name in _modules(geometry)]  # the mesh is worked on there on any machine
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        waiting = [pool.submit(wp.load_module, name, device=where) for name, where in jobs]
        for number, done in enumerate(as_completed(waiting), 1):
            done.result()
            report(f"compiling kernels, {number} of {len(jobs)}", number / len(jobs))


def _modules(package: Any) -> list[str]:
    """The modules of a package that hold kernels, imported."""
    found = []
    for entry in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if entry.ispkg or entry.name.endswith(".nvdiffrast_backend"):
            continue
        module = importlib.import_module(entry.name)
        if any(isinstance(value, wp.Kernel) and value.module.name == entry.name for value in vars(module).values()):
            found.append(entry.name)
    return found


def reconstruct_ball(device: torch.device, report: Report) -> float:
    """Reconstruct a colored ball through the whole pipeline; returns the PSNR in dB that the photographs reach."""
    psnr = math.nan

    def follow(event: Event) -> None:
        nonlocal psnr
        if event["event"] == "progress":
            psnr = event.get("psnr", psnr)
            stage = str(event["stage"])
            step = event["step"] / max(event["steps"], 1)
            report(f"reconstructing a ball, {stage}", (STAGES.index(stage) + step) / len(STAGES))

    with tempfile.TemporaryDirectory(prefix="unrender-self-test-") as temporary:
        capture = write_ball(Path(temporary) / "ball")
        settings = Settings.from_preset("draft", device.type, dict(SMALL))
        with Job(Path(temporary) / "job", {}) as job:
            job.listeners.append(follow)
            result = reconstruct(capture, job, settings)
        if not (result / "asset.glb").is_file():
            raise UserError("the self-test made no asset", where="asset.glb")
    if not psnr >= LEAST_PSNR:
        raise UserError(
            "the self-test does not reproduce its photographs",
            where="PSNR",
            expected=f"{LEAST_PSNR:.0f} dB or more",
            found=f"{psnr:.1f} dB",
        )
    return psnr


def write_ball(folder: Path) -> Path:
    """Photographs of a ball of radius 1 that has another color on each side, seen from around."""
    (folder / "images").mkdir(parents=True)
    camera = Camera(SIZE, SIZE, SIZE, SIZE, SIZE / 2, SIZE / 2)
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    rays = np.stack(((x - camera.cx) / camera.fx, (camera.cy - y) / camera.fy, -np.ones_like(x)), -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)  # [SIZE, SIZE, 3], camera axes
    views = []
    for index in range(VIEWS):
        turn = 2 * math.pi * index / VIEWS
        pose = _look_at_center(np.array([math.cos(turn), math.sin(turn), (0.5, -0.3)[index % 2]]) * DISTANCE)
        directions, center = rays @ pose[:3, :3].T, pose[:3, 3]
        # The nearer hit of center + t direction with the unit ball.
        b = directions @ center
        inside = b * b - (center @ center - 1.0)
        normals = center + (-b - np.sqrt(np.maximum(inside, 0.0)))[..., None] * directions
        rgba = np.concatenate((0.5 + 0.4 * normals, (inside > 0)[..., None]), -1)
        path = folder / "images" / f"{index}.png"
        Image.fromarray((rgba.clip(0, 1) * 255).round().astype(np.uint8), "RGBA").save(path)
        views.append(View(str(index), path, camera, pose))
    write_capture_json(Capture(folder, tuple(views), "capture.json"), folder)
    return folder


def _look_at_center(position: np.ndarray) -> np.ndarray:
    """The pose of a camera that looks at the world's origin, z up; [4, 4]."""
    back = position / np.linalg.norm(position)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(back, right), back), -1)
    pose[:3, 3] = position
    return pose
