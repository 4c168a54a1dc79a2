# SPDX-License-Identifier: GPL-3.0-or-later
"""Previews: PLY files that others can read, few of them, cheap, and never in the job's way."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from backend.appearance.color import linear_to_srgb
from backend.appearance.material import MaterialField
from backend.kernels.hash_grid import HashGridConfig
from backend.optimization import preview
from backend.optimization.preview import Previews, write_ply
from tests.kernels.scenes import sphere


class Recorder:
    """Stands in for a job."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.warnings: list[str] = []

    def preview(self, file: Path) -> None:
        assert file.is_file(), "announced before it was complete"
        self.files.append(file)

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def field() -> MaterialField:
    config = HashGridConfig(levels=9, features=2, log2_table_size=16, base_resolution=12, finest_resolution=320)
    return MaterialField((-1.1, -1.1, -1.1), 2.2, config, 32, torch.device("cpu"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_reads_back_as_written(tmp_path: Path) -> None:
    vertices, triangles = sphere(5, 8)
    colors = np.arange(3 * len(vertices), dtype=np.uint8).reshape(-1, 3)
    write_ply(tmp_path / "mesh_0000.ply", vertices.numpy(), triangles.numpy(), colors)
    assert names(tmp_path) == ["mesh_0000.ply"]
    mesh = trimesh.load(tmp_path / "mesh_0000.ply", process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), vertices.numpy())
    np.testing.assert_array_equal(mesh.faces, triangles.numpy())
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], colors)


def test_one_every_so_many_seconds_and_only_the_last_two_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [50.0]
    monkeypatch.setattr(preview.time, "monotonic", lambda: clock[0])
    job, material = Recorder(), field()
    vertices, triangles = sphere(4, 6)
    vertices.requires_grad_()
    previews = Previews(job, tmp_path, seconds=2.0)
    for _ in range(60):
        previews.show(vertices, triangles, material)
        clock[0] += 0.1
    assert [file.name for file in job.files] == ["mesh_0000.ply", "mesh_0001.ply", "mesh_0002.ply"]
    previews.show(vertices, triangles, material, now=True)
    assert names(tmp_path) == ["mesh_0002.ply", "mesh_0003.ply"]
    Previews(job, tmp_path, seconds=2.0).show(vertices, triangles, material)  # of the next run
    assert names(tmp_path) == ["mesh_0003.ply", "mesh_0004.ply"]
    assert material.table.grad is None and vertices.grad is None


def test_colors_are_the_base_color_as_srgb(tmp_path: Path) -> None:
    job, material = Recorder(), field()
    vertices, triangles = sphere(4, 6)
    Previews(job, tmp_path, 1.0).show(vertices, triangles, material)
    mesh = trimesh.load(job.files[0], process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    wanted = linear_to_srgb(material(vertices).base_color).detach().numpy() * 255
    assert np.abs(mesh.visual.vertex_colors[:, :3] - wanted).max() < 0.51


def test_none_where_none_are_wanted_or_nothing_is_there(tmp_path: Path) -> None:
    job, material = Recorder(), field()
    vertices, triangles = sphere(4, 6)
    Previews(job, tmp_path, 0.0).show(vertices, triangles, material, now=True)
    Previews(job, tmp_path, 1.0).show(vertices[:0], triangles[:0], material, now=True)
    assert not job.files and not names(tmp_path)


def test_a_preview_that_cannot_be_written_ends_previews_only(tmp_path: Path) -> None:
    job, material = Recorder(), field()
    vertices, triangles = sphere(4, 6)
    previews = Previews(job, tmp_path / "gone", 1.0)
    previews.show(vertices, triangles, material, now=True)
    previews.show(vertices, triangles, material, now=True)
    assert not job.files and len(job.warnings) == 1 and "gone" in job.warnings[0]


def test_forty_thousand_triangles_cost_little(tmp_path: Path) -> None:
    job, material = Recorder(), field()
    vertices, triangles = sphere(100, 200)
    assert 39_000 < len(triangles) < 41_000
    previews = Previews(job, tmp_path, 1.0)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        previews.show(vertices, triangles, material, now=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.15  # 0.025 on one quiet core; others may be at work too
