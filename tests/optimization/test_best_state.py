# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage that suddenly fits much worse goes back to where it fitted best."""

from __future__ import annotations

import pytest
import torch

from backend.optimization import best_state, shape_stage
from backend.optimization.best_state import BestState
from backend.optimization.scene import Scene
from backend.optimization.shape_stage import ShapeState, run_shape_stage
from tests.optimization.test_scene import sphere_photos
from tests.optimization.test_shape_stage import SETTINGS, STEPS, Watched


def test_it_goes_back_after_a_bad_window_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_state, "WINDOW", 4)
    value = torch.zeros(3)
    state = BestState([value])
    misfits = [1.0] * 4 + [0.5] * 4 + [0.6] * 4 + [0.1, 0.1, 0.1, 9.0] + [0.2] * 4
    back = []
    for step, misfit in enumerate(misfits):
        value += 1
        if state.observe(torch.tensor(misfit), last=False):
            back.append((step, float(value[0])))
    assert back == [(15, 8.0)], "a window that is a little worse stays, and one bad step counts as much as it misses"


@pytest.mark.parametrize("watched", [False, True])
def test_a_surface_that_collapses_comes_back(monkeypatch: pytest.MonkeyPatch, watched: bool) -> None:
    monkeypatch.setattr(best_state, "WINDOW", 4)
    monkeypatch.setattr(best_state, "WORSE", 1.25 if watched else float("inf"))
    monkeypatch.setattr(shape_stage, "SDF_OPEN", 0.2)
    torch.manual_seed(0)
    scene = Scene.of(sphere_photos(8, 0.8), None, torch.device("cpu"))
    state = ShapeState.start(scene, SETTINGS)
    progress = _Sabotage(state, at=STEPS - 6)
    run_shape_stage(state, scene, SETTINGS, progress)
    state.sdf.update_band()
    inside = float((state.sdf.dense < 0).float().mean())
    assert (inside > 0.8 * progress.inside) == watched


class _Sabotage(Watched):
    """Takes the surface away after a step, as a change of its topology might."""

    def __init__(self, state: ShapeState, at: int) -> None:
        super().__init__(state, STEPS)
        self.at, self.inside = at, 0.0

    def observe_error(self, squared: torch.Tensor) -> None:
        super().observe_error(squared)
        if len(self.levels) == self.at:
            self.inside = float((self.state.sdf.dense < 0).float().mean())
            with torch.no_grad():
                last = self.state.sdf.mlp[-1]
                assert isinstance(last, torch.nn.Linear)
                last.bias += 3.0  # cells, outward: the object shrinks
