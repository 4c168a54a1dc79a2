# SPDX-License-Identifier: GPL-3.0-or-later
"""The isosurface of a field that changes from step to step, on a band that follows it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.adjacency import triangle_neighbors
from ..kernels.dual_contour import extract_padded
from .sdf import SignedDistanceField

ROOM = 1.3  # of the band and the mesh, over what is needed at first
FULL = 0.9  # share of the mesh's room from which on it gets more


class IsosurfaceSeries:
    """Extracts the zero level set of `sdf` again and again.

    Where steps are `recorded`, band and mesh live in tensors of fixed size, so that nothing waits for their number.

    Attributes:
        vertices: [V, 3] float32, world, of the last extraction; without gradient.
        triangles: [T, 3] int32; unused places are (0, 0, 0).
    """

    def __init__(self, sdf: SignedDistanceField, recorded: bool) -> None:
        self._sdf = sdf
        self._recorded = recorded
        self._room = (0, 0)
        self._counts: Tensor | None = None
        self.vertices = torch.zeros(0, 3)
        self.triangles = torch.zeros(0, 3, dtype=torch.int32)

    def follow(self) -> bool:
        """Move the band to where the surface is now; returns whether tensors were replaced."""
        band, present = self._sdf.find_band(), self._sdf.band
        if not self._recorded:
            self._sdf.band = band
            return False
        if self._fits() and present.counts is not None and present.take(band):
            return False
        self._sdf.band = band.padded(ROOM)
        self._make_room(self._sdf.dense.reshape(-1)[band.vertices])
        return True

    def extract(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices [V, 3], differentiable, triangles [T, 3] and their neighbors [T, 3] for `values` on the band."""
        band = self._sdf.band
        vertices, triangles, self._counts = extract_padded(values, band, *self._room)
        if not self._recorded:
            if not self._fits():
                self._make_room(values)
                vertices, triangles, self._counts = extract_padded(values, band, *self._room)
            count_vertices, count_triangles = self._counts.tolist()
            vertices, triangles = vertices[:count_vertices], triangles[:count_triangles]
        self.vertices, self.triangles = vertices.detach(), triangles
        return vertices, triangles, triangle_neighbors(triangles, len(vertices))

    @torch.no_grad()
    def _make_room(self, values: Tensor) -> None:
        """Room for the mesh of `values` [M], with some to spare."""
        band = self._sdf.band
        if len(values) < len(band.vertices):
            values = torch.nn.functional.pad(values, (0, len(band.vertices) - len(values)))
        _, _, counts = extract_padded(values, band, 0, 0)
        vertices, triangles = counts.tolist()
        self._room = (int(ROOM * vertices) + 1, int(ROOM * triangles) + 2)
        self._counts = None

    def _fits(self) -> bool:
        """Whether the last mesh left some room."""
        if self._counts is None:
            return True
        return all(count <= FULL * room for count, room in zip(self._counts.tolist(), self._room, strict=True))
