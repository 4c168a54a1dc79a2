# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconstruction that starts from a mesh of the artist's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trimesh

from backend.errors import UserError
from backend.export.result import read_result
from backend.geometry.band import Grid
from backend.job import Job
from backend.optimization import pipeline
from backend.optimization.settings import Settings
from backend.optimization.start_mesh import StartMesh
from tests.optimization.synthetic import SETTINGS, reconstruct, small_light, write_capture

NO_STEPS = {"shape_steps": 0, "surface_steps": 0, "texture_steps": 0, "grid_cells": 32}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture") / "sphere", train=6, test=1, size=32)


def ball(path: Path, radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Path:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    mesh.apply_translation(center)
    mesh.export(path)
    return path


def run(capture: Path, job: Job, start: StartMesh | None) -> None:
    with small_light(), job:
        pipeline.reconstruct(capture, job, Settings.from_preset("draft", "cpu", {**SETTINGS, **NO_STEPS}), start)


@pytest.mark.parametrize("kind", ["ply", "obj", "stl"])
def test_the_files_that_are_read(tmp_path: Path, kind: str) -> None:
    mesh = StartMesh.read(ball(tmp_path / f"ball.{kind}", 0.5))
    assert len(mesh.triangles) == 1280 and mesh.vertices.norm(dim=1).max() == pytest.approx(0.5, abs=1e-5)


def test_it_is_where_the_job_starts_and_goes_on_without_it(capture: Path, tmp_path: Path) -> None:
    start = StartMesh.read(ball(tmp_path / "ball.ply", 0.5))
    run(capture, Job(tmp_path / "job", {}), start)
    radii = torch.from_numpy(read_result(tmp_path / "job").vertices).norm(dim=1)
    assert radii.mean() == pytest.approx(0.5, abs=0.02)  # and not one, as the hull has
    run(capture, Job(tmp_path / "job", {}, resume=True), None)
    run(capture, Job(tmp_path / "job", {}, resume=True), start)
    with pytest.raises(UserError, match="of another job"):
        run(capture, Job(tmp_path / "job", {}, resume=True), replace(start, digest="another"))


def test_what_no_silhouette_shows_is_kept_and_what_sticks_out_is_cut(tmp_path: Path) -> None:
    cup = trimesh.creation.annulus(r_min=0.6, r_max=1.5, height=1.0)
    cup.export(tmp_path / "cup.ply")
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 24)
    points = grid.all_positions(torch.device("cpu"))
    hull = (points.norm(dim=1) - 1.0).view(grid.shape)
    solid = StartMesh.read(tmp_path / "cup.ply").solid(grid, hull).view(-1)
    radius = points[:, :2].norm(dim=1)
    assert (solid[radius < 0.55] > 0).all()  # the hole
    assert (solid[points.norm(dim=1) > 1.01] > 0).all()  # beyond the hull
    assert (solid[(radius > 0.65) & (points.norm(dim=1) < 0.95) & (points[:, 2].abs() < 0.45)] < 0).all()


def test_one_far_away_is_refused(capture: Path, tmp_path: Path) -> None:
    start = StartMesh.read(ball(tmp_path / "ball.ply", 0.5, (30.0, 0.0, 0.0)))
    with pytest.raises(UserError, match=r"outside of what the photographs show.*\(29\.5 .*start without it"):
        run(capture, Job(tmp_path / "job", {}), start)


def test_files_that_are_no_mesh(tmp_path: Path) -> None:
    (tmp_path / "noise.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n")
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    (tmp_path / "points.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 1\n{properties}end_header\n0 0 0\n")
    (tmp_path / "empty.obj").write_text("")
    ball(tmp_path / "nan.obj", 0.5)
    (tmp_path / "nan.obj").write_text((tmp_path / "nan.obj").read_text().replace("v 0", "v nan", 1))
    for name in ("noise.ply", "points.ply", "empty.obj", "nan.obj", "no.ply", "scene.blend", "."):
        with pytest.raises(UserError) as caught:
            StartMesh.read(tmp_path / name)
        assert "start-mesh" in str(caught.value) and "\n" not in str(caught.value), name


def test_the_command_line_refuses_before_it_makes_a_folder(capture: Path, tmp_path: Path) -> None:
    result = reconstruct(capture, tmp_path / "job", "--start-mesh", str(tmp_path / "no.ply"))
    assert result.returncode == 2 and "no.ply" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "job").exists()
