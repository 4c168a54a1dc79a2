# SPDX-License-Identifier: GPL-3.0-or-later
"""A two-colored bumpy sphere, photographed by the renderer itself, and the command line run on it in a few seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from backend.capture import write_capture_json
from backend.capture.model import Camera, Capture, View
from backend.export import renderer
from backend.export.asset import Asset
from backend.export.renderer import AssetRenderer
from backend.geometry.mesh import vertex_normals
from backend.job import TERMINAL
from tests.appearance.scenes import studio
from tests.capture.builders import orbit_pose
from tests.kernels.scenes import sphere

ROOT = Path(__file__).resolve().parents[2]
RED, BLUE = (0.7, 0.12, 0.08), (0.1, 0.2, 0.65)
SETTINGS = {
    "grid_cells": 24,
    "shape_steps": 60,
    "surface_steps": 40,
    "texture_steps": 40,
    "shape_size": 48,
    "target_triangles": 1500,
    "texture_size": 128,
    "light_size": 8,
    "transport_size": 4,
    "table_size": 12,
}


def bumpy_sphere(rings: int = 32, segments: int = 48) -> Asset:
    """Radius 1 with bumps of a tenth, red on one half and blue on the other, lit from several sides."""
    directions, triangles = sphere(rings, segments)
    x, y, z = directions.unbind(-1)
    vertices = directions * (1 + 0.1 * torch.sin(4 * x) * torch.sin(4 * y + 1) + 0.1 * z * z)[:, None]
    azimuth = torch.atan2(y, x) / (2 * torch.pi) % 1
    corners = torch.stack((azimuth, 0.5 + torch.asin(z.clamp(-1, 1)) / torch.pi), -1)[triangles.long()]  # [T, 3, 2]
    # Triangles across the seam go on beyond one instead of back across the whole texture.
    u = corners[..., 0]
    corners[..., 0] = u + ((u.amax(1, keepdim=True) - u) > 0.5)
    size = 64
    color = np.empty((size, size, 3), np.float32)
    color[:, : size // 2], color[:, size // 2 :] = RED, BLUE
    up = np.zeros((size, size, 3), np.float32)
    up[..., 2] = 1
    return Asset(
        vertices=vertices.numpy(),
        triangles=triangles.numpy(),
        normals=vertex_normals(vertices, triangles).numpy(),
        uvs=corners.numpy(),
        base_color=color,
        roughness=np.full((size, size), 0.5, np.float32),
        metallic=np.zeros((size, size), np.float32),
        normal_map=up,
        environment=studio(32).numpy(),
        name="Bumpy",
    )


@contextmanager
def small_light() -> Iterator[None]:
    """Filtering a large cube for the first time takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renderer, "LIGHT_SIZE", 16)
        yield


def bowl(inner: float = 0.8, segments: int = 48) -> tuple[Tensor, Tensor]:
    """Half a hollow ball of radius one that is open on top: vertices and triangles, facing outward."""
    down = np.linspace(-np.pi / 2, 0, segments // 2)
    outside = np.stack((np.cos(down), np.sin(down)), 1)
    mesh = trimesh.creation.revolve(np.concatenate((outside, inner * outside[::-1])) + (0, 0.4), sections=segments)
    assert mesh.is_watertight and mesh.volume > 0
    return torch.from_numpy(mesh.vertices).float(), torch.from_numpy(np.array(mesh.faces))


def painted(vertices: Tensor, triangles: Tensor) -> Asset:
    """Another shape in the colors and the light of the sphere."""
    corners = vertices[triangles]  # [T, 3, 3]
    azimuth = torch.atan2(corners[..., 1], corners[..., 0]) / (2 * torch.pi) % 1
    azimuth = azimuth + ((azimuth.amax(1, keepdim=True) - azimuth) > 0.5)
    return replace(
        bumpy_sphere(),
        vertices=vertices.numpy(),
        triangles=triangles.int().numpy(),
        normals=vertex_normals(vertices, triangles).numpy(),
        uvs=torch.stack((azimuth, 0.5 + corners[..., 2] / 4), -1).numpy(),
    )


def write_capture(
    folder: Path,
    train: int = 12,
    test: int = 3,
    size: int = 48,
    focal: float = 0.8,
    asset: Asset | None = None,
    heights: tuple[float, ...] = (1.6, -1.2, 0.2),
) -> Path:
    """Photograph the sphere, or another asset, from around and above into capture.json and RGBA images; returns the
    folder."""
    with small_light():
        return _write_capture(folder, train, test, size, focal * size, asset or bumpy_sphere(), heights)


def _write_capture(
    folder: Path, train: int, test: int, size: int, focal: float, asset: Asset, heights: tuple[float, ...]
) -> Path:
    renders = AssetRenderer(asset, "cpu")
    camera = Camera(size, size, focal, focal, size / 2, size / 2)
    views = []
    (folder / "images").mkdir(parents=True)
    for index in range(train + test):
        held_out = index >= train
        turn = (index - train + 0.37) / test if held_out else index / train
        pose = orbit_pose(2 * np.pi * turn, 3.4, heights[index % len(heights)])
        seen = renders.render(
            torch.from_numpy(pose).float()[None],
            torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]]),
            (size, size),
        )
        rgba = torch.cat((seen["color"], seen["alpha"]), -1)[0].clamp(0, 1)
        path = folder / "images" / f"{index:02}.png"
        Image.fromarray((rgba * 255).round().byte().numpy(), "RGBA").save(path)
        views.append(View(f"{index:02}", path, camera, pose, split="test" if held_out else "train"))
    write_capture_json(Capture(folder, tuple(views), "capture.json"), folder)
    return folder


def command(capture: Path, out: Path, *more: str, **settings: Any) -> list[str]:
    """The command line of a small reconstruction."""
    sets = [f"--set={key}={json.dumps(value)}" for key, value in (SETTINGS | settings).items()]
    start = [sys.executable, "-m", "backend", "reconstruct", str(capture), "--out", str(out)]
    return [*start, "--preset", "draft", "--device", "cpu", *sets, *more]


def variables() -> dict[str, str]:
    """The environment that makes the command line use this interpreter."""
    return {**os.environ, "UNRENDER_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}


def reconstruct(capture: Path, out: Path, *more: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a small reconstruction to its end."""
    return subprocess.run(
        command(capture, out, *more, **settings),
        cwd=ROOT,
        env=variables(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def events(job: Path) -> list[dict[str, Any]]:
    """All lines of the job's events, each of which must be a JSON object."""
    lines = (job / "events.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line, parse_constant=_refuse) for line in lines]
    assert all(isinstance(event, dict) for event in found)
    return found


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} in events.jsonl, which is no JSON")


def last_words(job: Path) -> list[str]:
    """The terminal events of the job: there must be exactly one."""
    return [event["event"] for event in events(job) if event["event"] in TERMINAL]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
