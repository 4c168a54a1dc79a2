# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checkpoint belongs to which job, what stands in it, and the states of the stages made from it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..capture import Capture
from ..errors import UserError
from ..geometry.band import Grid
from ..job import Job
from .camera_alignment import Alignment
from .checkpoint import Checkpoint
from .scene import Scene
from .settings import Settings
from .shape_stage import ShapeState, start_appearance
from .start_mesh import StartMesh
from .surface_stage import SurfaceState
from .timer import Timer


def fingerprint(capture: Capture, settings: Settings, start_mesh: StartMesh | None) -> dict[str, Any]:
    """What must be the same for a checkpoint to fit: settings that change the asset, views and their cameras, and the
    mesh that it was started from."""
    views = [
        [
            view.name,
            view.split,
            np.asarray(view.cam_to_world).round(9).tolist(),
            [round(value, 6) for value in (view.camera.fx, view.camera.fy, view.camera.cx, view.camera.cy)],
            [round(value, 9) for value in view.camera.distortion],
        ]
        for view in capture.views
    ]
    digest = hashlib.sha256(json.dumps(views).encode()).hexdigest()
    return {
        "settings": asdict(replace(settings, device="auto", preview_seconds=0.0)),
        "views": digest,
        "start mesh": start_mesh.digest if start_mesh else "",
    }


def check_same_job(checkpoint: Checkpoint, mark: dict[str, Any], folder: Path) -> None:
    """Raises UserError if the `checkpoint` in `folder` is not of the job with the fingerprint `mark`."""
    if checkpoint.fingerprint == mark:
        return
    raise UserError(
        what="the checkpoint is of another job",
        where=str(folder),
        expected="the same capture, preset, settings and start mesh as before",
        found="others",
        remedy="Repeat the earlier command with --resume, or start again without it.",
    )


class Keeper:
    """Writes the checkpoints of one job.

    When the artist asks to finish now, the checkpoint of that moment stays, so that the job can go on from it later.

    Attributes:
        mark: the job's fingerprint.
        alignment: the refined cameras, once there are any.
    """

    def __init__(self, job: Job, mark: dict[str, Any], timer: Timer) -> None:
        self._job = job
        self.mark = mark
        self.alignment: Alignment | None = None
        self._timer = timer
        self._closed = False

    def shape(self, state: ShapeState, step: int) -> None:
        """In the shape stage, before `step`."""
        self._save("shape", step, _tensors(sdf=state.sdf, material=state.material, light=state.light))

    def surface(self, state: SurfaceState, step: int = 0, stage: str = "surface") -> None:
        """In the surface stage, before `step`, or at the start of the texture stage."""
        mesh = {"vertices": state.vertices, "triangles": state.triangles}
        self._save(stage, step, mesh | _tensors(material=state.material, light=state.light))

    def _save(self, stage: str, step: int, tensors: dict[str, Tensor]) -> None:
        if not self._closed:
            if self.alignment is not None:
                cameras = {"cam_to_world": self.alignment.cam_to_world, "shift": self.alignment.shift}
                tensors = tensors | {f"cameras.{name}": value for name, value in cameras.items()}
            Checkpoint(stage, self.mark, self._timer.seconds, tensors, step).save(self._job.files.checkpoint)
            self._closed = self._job.finish_requested


def restore_shape(checkpoint: Checkpoint, scene: Scene, settings: Settings) -> ShapeState:
    """The state that `Keeper.shape` wrote."""
    state = ShapeState.start(scene, settings)
    _load(checkpoint, sdf=state.sdf, material=state.material, light=state.light)
    state.sdf.update_band()
    return state


def restore_surface(checkpoint: Checkpoint, scene: Scene, settings: Settings) -> SurfaceState:
    """The state that `Keeper.surface` wrote."""
    material, light = start_appearance(Grid.around(scene.bounds, settings.grid_cells), settings, scene.device)
    _load(checkpoint, material=material, light=light)
    return SurfaceState(checkpoint.tensors["vertices"], checkpoint.tensors["triangles"], material, light)


def restore_alignment(checkpoint: Checkpoint, given: Alignment) -> Alignment | None:
    """The cameras that a `Keeper` wrote, on the device of those `given`; None where they had not been refined."""
    if "cameras.cam_to_world" not in checkpoint.tensors:
        return None
    cam_to_world, shift = (checkpoint.tensors[f"cameras.{name}"] for name in ("cam_to_world", "shift"))
    return Alignment(given.given, cam_to_world.to(given.given), shift.to(given.shift))


def _tensors(**modules: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def _load(checkpoint: Checkpoint, **modules: nn.Module) -> None:
    for name, module in modules.items():
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
        module.load_state_dict(own)
