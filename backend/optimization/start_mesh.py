# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh of the artist's that the shape stage starts from: a sculpt, a scan, a generated model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..geometry.band import Grid
from ..geometry.mesh import face_areas
from ..geometry.solid import signed_distance
from .shape_stage import REACH

KINDS = (".ply", ".obj", ".stl")  # that say nothing of another frame than the capture's
SMALL = 0.05  # of the visual hull: a mesh that fills less looks misplaced
SHOWN = 0.5  # of the mesh's surface: one that shows less inside the masks does, too


@dataclass(frozen=True)
class StartMesh:
    """The mesh in the capture's world: `vertices` [V, 3] float32, `triangles` [T, 3] int64; `digest` of its file."""

    vertices: Tensor
    triangles: Tensor
    digest: str
    path: Path

    @staticmethod
    def read(path: Path) -> StartMesh:
        """Raises UserError for a file that is no such mesh."""
        if path.suffix.lower() not in KINDS:
            raise _wrong(path, found=path.suffix or "no file ending")
        if not path.is_file():
            raise _wrong(path, found="a folder" if path.is_dir() else "no such file")
        import trimesh

        try:
            mesh = trimesh.load_mesh(path, process=False)
            vertices = np.asarray(mesh.vertices, np.float32).reshape(-1, 3)
            triangles = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
        except Exception as error:  # whatever a damaged file makes of a parser
            raise _wrong(path, found=f"a file that cannot be read ({error or type(error).__name__})") from error
        if not len(triangles):
            raise _wrong(path, found="no faces")
        if not np.isfinite(vertices).all():
            raise _wrong(path, found="vertices that are not finite")
        if triangles.min() < 0 or triangles.max() >= len(vertices):
            raise _wrong(path, found="faces of vertices that are not there")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StartMesh(torch.from_numpy(vertices), torch.from_numpy(triangles), digest, path)

    def solid(
        self, grid: Grid, hull: Tensor, warn: Callable[[str], None], tell: Callable[[float], None] = lambda share: None
    ) -> Tensor:
        """Signed distance [X, Y, Z] on `grid`: what of the mesh lies inside the visual `hull` [X, Y, Z].

        Args:
            warn: hears what looks like a mesh in the wrong place or size.
            tell: hears the share that is done, and may end it by an exception.

        Raises:
            UserError: nothing of the mesh does.
        """
        points = grid.all_positions(hull.device)
        solid = hull.reshape(-1).clone()
        near = solid < REACH * grid.cell_size  # beyond, the hull has the last word
        inside = signed_distance(self.vertices, self.triangles, points[near], tell)
        solid[near] = torch.maximum(solid[near], inside)
        filled = float((solid < 0).sum()) / max(1, int((hull < 0).sum()))
        if not filled:
            raise UserError(
                what="the start mesh encloses nothing of what the photographs show",
                where=str(self.path),
                expected=f"a mesh in the capture's frame, within {_box(points)}",
                found=f"one at {_box(self.vertices)}",
                remedy="Move or scale it onto the object as the cameras see it, give a mere surface some thickness, or "
                "start without it.",
            )
        shown = self._share_within(grid, hull)
        if filled < SMALL or shown < SHOWN:
            warn(
                f"The start mesh may have the wrong place or size: {shown:.0%} of its surface lies within the masks, "
                f"and it fills {filled:.0%} of what they allow."
            )
        return solid.view(grid.shape)

    def _share_within(self, grid: Grid, hull: Tensor) -> float:
        """How much of the surface, by area, lies inside the `hull` or up to two cells beyond."""
        centers = self.vertices[self.triangles].mean(1)  # [T, 3]
        steps = ((centers - torch.tensor(grid.origin)) / grid.cell_size).round().long()
        last = torch.tensor(grid.shape) - 1
        within = ((steps >= 0) & (steps <= last)).all(1)
        x, y, z = torch.minimum(steps.clamp(min=0), last).unbind(1)
        within &= hull.cpu()[x, y, z] < 2 * grid.cell_size
        areas = face_areas(self.vertices, self.triangles)
        return float(areas[within].sum() / areas.sum().clamp(min=1e-30))


def _box(points: Tensor) -> str:
    low, high = (" ".join(f"{value:.3g}" for value in corner.tolist()) for corner in (points.amin(0), points.amax(0)))
    return f"({low}) .. ({high})"


def _wrong(path: Path, found: str) -> UserError:
    return UserError(
        what="no mesh to start from",
        where=str(path),
        expected="a PLY, OBJ or STL file with faces, in the capture's frame",
        found=found,
        remedy="Export the mesh again, or leave out --start-mesh.",
    )
