# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a running job, written now and then for whoever watches."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..appearance.color import linear_to_srgb
from ..appearance.material import MaterialField

KEPT = 2  # files: the latest, and the one before it, which a reader may have open
NAME = "mesh_{:04}.ply"


class PreviewJob(Protocol):
    """The part of `backend.job.Job` that previews are announced to."""

    def preview(self, file: Path) -> None: ...

    def warning(self, message: str) -> None: ...


class Previews:
    """Writes `mesh_NNNN.ply` into a job's preview folder.

    Args:
        job: to which each file is announced.
        folder: where the files go; numbers go on from those of an earlier run.
        seconds: between one file and the next; 0 writes none.
    """

    def __init__(self, job: PreviewJob, folder: Path, seconds: float) -> None:
        self._job = job
        self._folder = folder
        self._seconds = seconds
        self._due = 0.0
        self._files = sorted(folder.glob(NAME.replace("{:04}", "*")), key=_number)
        self._next = _number(self._files[-1]) + 1 if self._files else 0

    @torch.no_grad()
    def show(self, vertices: Tensor, triangles: Tensor, material: MaterialField, now: bool = False) -> None:
        """Write the mesh with its base color if a preview is due, or `now`.

        Args:
            vertices: [V, 3] float32, world.
            triangles: [T, 3] int32.
        """
        if not self._seconds or not (now or time.monotonic() >= self._due):
            return
        triangles = triangles[triangles[:, 0] != triangles[:, 1]]  # unused places of a mesh with a capacity
        if not len(triangles):
            return
        vertices = vertices[: int(triangles.max()) + 1]
        color = linear_to_srgb(material(vertices).base_color)
        path = self._folder / NAME.format(self._next)
        try:
            write_ply(
                path,
                vertices.detach().cpu().numpy(),
                triangles.cpu().numpy(),
                (color * 255).round().clamp(0, 255).byte().cpu().numpy(),
            )
            for old in self._files[: 1 - KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:  # nobody needs a preview as much as the result
            self._seconds = 0.0
            self._job.warning(f"{path}: no more previews, for this cannot be written ({error.strerror or error})")
            return
        self._files = [*self._files[1 - KEPT :], path]
        self._next += 1
        self._job.preview(path)
        self._due = time.monotonic() + self._seconds


def write_ply(path: Path, vertices: np.ndarray, triangles: np.ndarray, colors: np.ndarray) -> None:
    """Write a binary little-endian PLY file; a reader sees all of it or nothing.

    Args:
        vertices: [V, 3] float32.
        triangles: [T, 3] int32.
        colors: [V, 3] uint8, sRGB-encoded.
    """
    points = np.empty(len(vertices), [("position", "<f4", 3), ("color", "u1", 3)])
    points["position"], points["color"] = vertices, colors
    faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    part = path.with_suffix(".part")
    part.write_bytes("\n".join(header).encode("ascii") + points.tobytes() + faces.tobytes())
    os.replace(part, path)


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1
