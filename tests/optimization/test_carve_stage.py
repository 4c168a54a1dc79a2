# SPDX-License-Identifier: GPL-3.0-or-later
"""A bowl: its silhouettes say it is solid, its photographs that it is hollow."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.appearance.fragments import Fragments
from backend.appearance.projection import world_to_clip
from backend.capture.loader import Photos
from backend.geometry.band import Grid
from backend.optimization.carve_stage import run_carve_stage
from backend.optimization.cavities import Cavities, resampled
from backend.optimization.scene import Scene
from backend.optimization.settings import Settings
from backend.optimization.shape_stage import visual_hull
from backend.optimization.start_choice import choose_start
from backend.optimization.unseen import flatten_unseen
from backend.optimization.views import TrainingViews
from tests.capture.builders import orbit_pose
from tests.kernels.scenes import sphere

CPU = torch.device("cpu")
SIZE, COUNT = 64, 24


class Steps:
    """Counts the steps of a stage."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def steps(self, count: int) -> range:
        return range(count)

    def observe_error(self, squared: Tensor) -> None:
        self.errors.append(float(squared.mean()))


class Job:
    """One that nobody stops."""

    finish_requested = False

    def should_stop(self) -> bool:
        return False


def bowl(hollow: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, triangles and colors of a hemisphere of radius 1 below z = 0, hollow to a radius."""
    directions, triangles = sphere(40, 60)
    outer = directions.clone()
    above = directions[:, 2] > 0
    # The upper half is folded down into the lower one.
    inner = directions * torch.tensor([hollow, hollow, -hollow])
    vertices = torch.where(above[:, None], inner, outer)
    x, y, z = vertices.unbind(-1)
    colors = 0.5 + 0.4 * torch.stack((torch.sin(9 * x), torch.sin(8 * y + 1), torch.sin(10 * z + x)), -1)
    return vertices, triangles, colors


@functools.cache
def scene(hollow: float = 0.75) -> Scene:
    """The bowl, photographed from a ring of cameras above it."""
    vertices, triangles, colors = bowl(hollow)
    poses = [orbit_pose(2 * math.pi * k / COUNT, distance=2.6, height=1.2 + 1.8 * (k % 3)) for k in range(COUNT)]
    cam_to_world = torch.from_numpy(np.stack(poses)).float()
    intrinsics = torch.tensor([[90.0, 90.0, SIZE / 2, SIZE / 2]]).repeat(COUNT, 1)
    clip = world_to_clip(cam_to_world, intrinsics, (SIZE, SIZE), 0.01)
    fragments = Fragments.of(vertices, triangles, clip, cam_to_world[:, :3, 3], (SIZE, SIZE))
    seen = torch.nn.functional.pad(fragments.interpolate(colors), (0, 1), value=1.0)
    rgba = (fragments.image(seen) * 255).round().to(torch.uint8)
    photos = Photos(
        names=tuple(map(str, range(COUNT))),
        rgba=rgba,
        valid=None,
        intrinsics=intrinsics,
        cam_to_world=cam_to_world,
        sizes=torch.tensor([[SIZE, SIZE]] * COUNT, dtype=torch.int32),
        masked=torch.ones(COUNT, dtype=torch.bool),
        exposures=torch.full((COUNT,), float("nan")),
    )
    return Scene.of(photos, None, CPU)


def solid(steps: int) -> tuple[Grid, Tensor, Tensor]:
    """Grid, hull and what the stage makes of it."""
    settings = Settings.from_preset(
        "draft", "cpu", {"carve_steps": steps, "carve_cells": 40, "carve_rays": 2048, "carve_size": SIZE}
    )
    grid = Grid.around(scene().bounds, 40)
    hull = visual_hull(scene(), grid)
    return grid, hull, run_carve_stage(scene(), grid, hull, settings, Steps())  # type: ignore[arg-type]


def value_at(field: Tensor, grid: Grid, point: tuple[float, float, float]) -> float:
    index = ((torch.tensor(point) - torch.tensor(grid.origin)) / grid.cell_size).round().long()
    return float(field[tuple(index.tolist())])


@pytest.mark.slow
def test_the_bowl_is_opened_and_its_wall_stays() -> None:
    grid, hull, carved = solid(250)
    for depth in (-0.1, -0.3, -0.5):
        assert value_at(hull, grid, (0.0, 0.0, depth)) < 0 < value_at(carved, grid, (0.0, 0.0, depth)), depth
    for angle in (0.0, 1.3, 2.9, 4.4):
        wall = (0.87 * math.cos(angle) * 0.9, 0.87 * math.sin(angle) * 0.9, -0.87 * 0.43)
        assert value_at(carved, grid, wall) < 0, angle
    assert bool((carved >= hull).all())


def test_fog_carves_nothing() -> None:
    _, hull, carved = solid(2)
    assert torch.equal(hull, carved)


def test_what_no_view_shows_becomes_flat_and_the_rest_stays() -> None:
    directions, triangles = sphere(40, 60)
    views = TrainingViews(scene().photos, SIZE, scene().near, CPU)
    moved = flatten_unseen(directions, triangles, views)
    lowest = float(directions[:, 2].min()), float(moved[:, 2].min())
    assert lowest[0] < -0.99 and lowest[1] > -0.9
    upper = directions[:, 2] > 0
    torch.testing.assert_close(moved[upper], directions[upper])


def test_a_solid_is_read_on_another_grid() -> None:
    bounds = torch.tensor([[-1.0, -0.5, 0.0], [1.0, 0.7, 0.4]])
    fine, coarse = Grid.around(bounds, 32), Grid.around(bounds, 14)
    slope = torch.tensor([1.0, -2.0, 3.0])
    field = (fine.all_positions(CPU) @ slope).view(fine.shape)
    inner = coarse.all_positions(CPU).view(*coarse.shape, 3)[1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(resampled(field, fine, coarse)[1:-1, 1:-1, 1:-1], inner @ slope, atol=1e-5, rtol=0)


def ball(points: Tensor, center: tuple[float, float, float], radius: float) -> Tensor:
    """Signed distance [P], positive inside."""
    return radius - (points - torch.tensor(center)).norm(dim=-1)


def test_cavities_are_told_apart_and_some_are_kept() -> None:
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 40)
    points = grid.all_positions(CPU)
    hull = -ball(points, (0, 0, 0), 1.0).view(grid.shape)
    left, right = ball(points, (-0.5, 0, 0), 0.3).view(grid.shape), ball(points, (0.5, 0, 0), 0.3).view(grid.shape)
    carved = torch.maximum(hull, torch.maximum(left, right))
    cavities = Cavities.between(hull, carved, grid)
    assert cavities.count == 2
    numbers = cavities.at(torch.tensor([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])).tolist()
    assert sorted(numbers[:2]) == [1, 2] and numbers[2:] == [0, 0]
    kept = torch.tensor([False, False, False])
    torch.testing.assert_close(cavities.keep(kept, hull, carved, grid), hull)
    kept[numbers[0]] = True
    finer = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 50)
    both = [resampled(field, grid, finer) for field in (hull, carved)]
    found = cavities.keep(kept, *both, finer)
    assert value_at(found, finer, (-0.5, 0.0, 0.0)) > 0.2 and value_at(found, finer, (0.5, 0.0, 0.0)) < -0.2


def test_without_a_cavity_the_hull_stays() -> None:
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 20)
    hull = -ball(grid.all_positions(CPU), (0, 0, 0), 1.0).view(grid.shape)
    cavities = Cavities.between(hull, hull + 0.5 * grid.cell_size, grid)
    assert cavities.count == 0
    torch.testing.assert_close(cavities.keep(torch.tensor([False]), hull, hull + 1, grid), hull)


@pytest.mark.slow
def test_photographs_choose_among_the_cavities() -> None:
    """Carving has hollowed a bowl, as it should, and dug a pit into its side, as it should not."""
    thick = scene(0.5)
    settings = Settings.from_preset("draft", "cpu", {"grid_cells": 40, "shape_size": SIZE, "table_size": 12})
    grid = Grid.around(thick.bounds, 40)
    hull = visual_hull(thick, grid)
    points = grid.all_positions(CPU)
    hollow, pit = (ball(points, *it).view(grid.shape) for it in (((0, 0, 0), 0.5), ((1.0, 0, -0.3), 0.3)))
    carved = torch.maximum(hull, torch.maximum(hollow, pit))
    start = choose_start(thick, grid, hull, carved, settings, Job(), lambda share: None)  # type: ignore[arg-type]
    for cavity, opened in ((hollow, True), (pit, False)):
        deep = (hull < -2 * grid.cell_size) & (cavity > grid.cell_size)
        assert int(deep.sum()) > 10 and bool((carved[deep] > 0).all())
        assert bool(((start[deep] > 0) == opened).all())
