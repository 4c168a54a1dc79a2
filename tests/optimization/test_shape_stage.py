# SPDX-License-Identifier: GPL-3.0-or-later
"""Both fields of the shape stage open from coarse to fine, and the material is whole for the stages that follow."""

from __future__ import annotations

import torch
from torch import Tensor

from backend.optimization.progress import StageProgress
from backend.optimization.scene import Scene
from backend.optimization.settings import Settings
from backend.optimization.shape_stage import (
    FIRST_MATERIAL_LEVELS,
    FIRST_SDF_LEVELS,
    MATERIAL_LEVELS,
    SDF_LEVELS,
    ShapeState,
    run_shape_stage,
)
from tests.optimization.test_scene import sphere_photos

STEPS = 24
SETTINGS = Settings.from_preset(
    "draft", "cpu", {"grid_cells": 16, "shape_steps": STEPS, "shape_size": 32, "light_size": 8, "table_size": 10}
)


class Watched(StageProgress):
    """Notes the open levels of every step; a job that wants to finish after `last` of them."""

    def __init__(self, state: ShapeState, last: int) -> None:
        super().__init__(self, "shape")
        self.state, self.last = state, last
        self.levels: list[tuple[int, int]] = []

    @property
    def finish_requested(self) -> bool:
        return len(self.levels) == self.last

    def report(self, *values: object) -> None:
        pass

    def should_stop(self) -> bool:
        return False

    def observe_error(self, squared: Tensor) -> None:
        self.levels.append((self.state.sdf.open_levels.count, self.state.material.open_levels.count))


def run(last: int = STEPS) -> Watched:
    torch.manual_seed(0)
    scene = Scene.of(sphere_photos(8, 0.8), None, torch.device("cpu"))
    watched = Watched(ShapeState.start(scene, SETTINGS), last)
    run_shape_stage(watched.state, scene, SETTINGS, watched)
    return watched


def test_levels_open_one_after_the_other() -> None:
    levels = run().levels
    assert len(levels) == STEPS
    assert levels[0] == (FIRST_SDF_LEVELS, FIRST_MATERIAL_LEVELS)
    assert levels[-1] == (SDF_LEVELS, MATERIAL_LEVELS)
    for before, after in zip(levels, levels[1:]):
        assert before[0] <= after[0] and before[1] <= after[1]


def test_a_stage_that_is_cut_short_leaves_the_material_whole() -> None:
    watched = run(last=2)
    assert watched.levels[-1][1] < MATERIAL_LEVELS == watched.state.material.open_levels.count
