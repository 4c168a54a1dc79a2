# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconstruction that starts from a mesh of the artist's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh

from backend.errors import UserError
from backend.export.result import read_report, read_result
from backend.geometry.band import Grid
from backend.geometry.solid import signed_distance
from backend.job import Job
from backend.optimization import pipeline
from backend.optimization.settings import Settings
from backend.optimization.start_mesh import StartMesh
from tests.optimization.synthetic import SETTINGS, bowl, painted, reconstruct, small_light, write_capture

NO_STEPS = {"shape_steps": 0, "surface_steps": 0, "texture_steps": 0, "grid_cells": 32}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture") / "sphere", train=6, test=1, size=32)


def ball(path: Path, radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Path:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    mesh.apply_translation(center)
    mesh.export(path)
    return path


def run(capture: Path, job: Job, start: StartMesh | None, **settings: Any) -> None:
    chosen = Settings.from_preset("draft", "cpu", {**SETTINGS, **NO_STEPS, **settings})
    with small_light(), job:
        pipeline.reconstruct(capture, job, chosen, start)


@pytest.mark.parametrize("kind", ["ply", "obj", "stl"])
def test_the_files_that_are_read(tmp_path: Path, kind: str) -> None:
    mesh = StartMesh.read(ball(tmp_path / f"ball.{kind}", 0.5))
    assert len(mesh.triangles) == 1280 and mesh.vertices.norm(dim=1).max() == pytest.approx(0.5, abs=1e-5)


def test_it_is_where_the_job_starts_and_goes_on_without_it(capture: Path, tmp_path: Path) -> None:
    start = StartMesh.read(ball(tmp_path / "ball.ply", 0.5))
    run(capture, Job(tmp_path / "job", {}), start)
    radii = torch.from_numpy(read_result(tmp_path / "job").vertices).norm(dim=1)
    assert radii.mean() == pytest.approx(0.5, abs=0.02)  # and not one, as the hull has
    assert read_report(tmp_path / "job")["start_mesh"] == start.digest
    run(capture, Job(tmp_path / "job", {}, resume=True), None)
    assert read_report(tmp_path / "job")["start_mesh"] == start.digest
    run(capture, Job(tmp_path / "job", {}, resume=True), start)
    with pytest.raises(UserError, match="of another job"):
        run(capture, Job(tmp_path / "job", {}, resume=True), replace(start, digest="another"))


def test_a_hollow_that_no_silhouette_shows_stays_open(tmp_path: Path) -> None:
    """From a rough mesh of it, some of whose triangles face the wrong way; from the hull it stays closed."""
    photos = write_capture(
        tmp_path / "bowl", train=12, test=1, size=48, asset=painted(*bowl()), heights=(3.0, -1.2, 0.2)
    )
    vertices, triangles = bowl(inner=0.7, segments=16)
    chance = torch.Generator().manual_seed(0)
    vertices = vertices + 0.01 * torch.randn(vertices.shape, generator=chance)
    wrong = torch.rand(len(triangles), generator=chance) < 0.3
    triangles = torch.where(wrong[:, None], triangles.flip(1), triangles)
    trimesh.Trimesh(vertices.numpy(), triangles.numpy(), process=False).export(tmp_path / "bowl.ply")
    places = 1.5 * torch.rand(4000, 3, generator=chance) - 0.75
    hollow = places[((places - torch.tensor([0.0, 0.0, 0.4])).norm(dim=1) < 0.65) & (places[:, 2] < 0.3)]
    for start, is_open in ((None, False), (StartMesh.read(tmp_path / "bowl.ply"), True)):
        job = tmp_path / f"open_{is_open}"
        run(photos, Job(job, {}), start, shape_steps=60, grid_cells=32, shape_size=48)
        result = read_result(job)
        found = signed_distance(torch.from_numpy(result.vertices), torch.from_numpy(result.triangles), hollow) > 0
        assert found.float().mean() > 0.95 if is_open else found.float().mean() < 0.05


def test_what_no_silhouette_shows_is_kept_and_what_sticks_out_is_cut(tmp_path: Path) -> None:
    cup = trimesh.creation.annulus(r_min=0.6, r_max=1.5, height=1.0)
    cup.export(tmp_path / "cup.ply")
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 24)
    points = grid.all_positions(torch.device("cpu"))
    hull = (points.norm(dim=1) - 1.0).view(grid.shape)
    said: list[str] = []
    solid = StartMesh.read(tmp_path / "cup.ply").solid(grid, hull, said.append).view(-1)
    assert len(said) == 1  # most of it is cut
    radius = points[:, :2].norm(dim=1)
    assert (solid[radius < 0.55] > 0).all()  # the hole
    assert (solid[points.norm(dim=1) > 1.01] > 0).all()  # beyond the hull
    assert (solid[(radius > 0.65) & (points.norm(dim=1) < 0.95) & (points[:, 2].abs() < 0.45)] < 0).all()


@pytest.mark.parametrize(
    ("radius", "x", "warning"),
    [(0.9, 0.0, ""), (1.05, 0.0, ""), (0.2, 0.3, "100% of its surface.* fills 1%"), (1.0, 1.5, "1.% of its surface")],
)
def test_one_in_the_wrong_place_or_size_is_mentioned(tmp_path: Path, radius: float, x: float, warning: str) -> None:
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 32)
    hull = (grid.all_positions(torch.device("cpu")).norm(dim=1) - 1.0).view(grid.shape)
    said: list[str] = []
    shares: list[float] = []
    StartMesh.read(ball(tmp_path / "ball.ply", radius, (x, 0.0, 0.0))).solid(grid, hull, said.append, shares.append)
    assert len(said) == bool(warning) and all(re.search(warning, text) for text in said), said
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_what_encloses_nothing_is_refused(tmp_path: Path) -> None:
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 24)
    hull = (grid.all_positions(torch.device("cpu")).norm(dim=1) - 1.0).view(grid.shape)
    sheet = trimesh.Trimesh([[-9, -9, 0.01], [9, -9, 0.01], [9, 9, 0.01], [-9, 9, 0.01]], [[0, 1, 2], [0, 2, 3]])
    sheet.export(tmp_path / "sheet.ply")
    with pytest.raises(UserError, match=r"encloses nothing.*thickness"):
        StartMesh.read(tmp_path / "sheet.ply").solid(grid, hull, pytest.fail)


def test_one_far_away_is_refused(capture: Path, tmp_path: Path) -> None:
    start = StartMesh.read(ball(tmp_path / "ball.ply", 0.5, (30.0, 0.0, 0.0)))
    with pytest.raises(UserError, match=r"encloses nothing of what the photographs show.*\(29\.5 .*start without it"):
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
