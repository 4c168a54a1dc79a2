# SPDX-License-Identifier: GPL-3.0-or-later
"""Half-edges of a triangle mesh for operations that change it one edge at a time, in Warp kernels of one thread.

Half-edge 3t + k runs from corner k of triangle t to the next; its twin lies in the triangle across. A removed triangle
has −1 for its corners. A vertex knows one half-edge that starts at it; at a border it is the one without a twin, so
that turning counter-clockwise from it meets all triangles.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import warp as wp
from torch import Tensor

from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

SMOOTH, LINE, CORNER = 0, 1, 2  # what a vertex lies on


@wp.struct
class Links:
    """What kernels see of a `HalfEdges`; `marks` [V] is scratch memory, `counts` = vertices, triangles, operations
    done, last mark."""

    points: wp.array(dtype=wp.vec3)
    out: wp.array(dtype=wp.int32)
    degree: wp.array(dtype=wp.int32)
    kind: wp.array(dtype=wp.int32)
    marks: wp.array(dtype=wp.int32)
    corner: wp.array(dtype=wp.int32)
    twin: wp.array(dtype=wp.int32)
    crease: wp.array(dtype=wp.int32)
    counts: wp.array(dtype=wp.int32)


@dataclass
class HalfEdges:
    """The arrays, with room for growth: `points` [V, 3] float32, the rest int32, on the CPU.

    Per vertex: `out`, a half-edge that starts there (−1: vertex not used), `degree`, the number of neighbors, `kind`.
    Per half-edge [3T]: `corner`, its first vertex, `twin` (−1 at borders) and `crease` (0 or 1).
    """

    points: Tensor
    out: Tensor
    degree: Tensor
    kind: Tensor
    marks: Tensor
    corner: Tensor
    twin: Tensor
    crease: Tensor
    counts: Tensor

    @staticmethod
    def of(points: Tensor, faces: Tensor) -> HalfEdges:
        """points [V, 3], faces [T, 3] of an oriented 2-manifold with or without border."""
        corner = faces.detach().reshape(-1).cpu().numpy().astype(np.int32)
        twin = twins(corner.reshape(-1, 3))
        count, index = len(points), np.arange(len(corner), dtype=np.int32)
        out = np.full(count, -1, dtype=np.int32)
        out[corner] = index
        border = np.flatnonzero(twin < 0)
        out[corner[border]] = border
        degree = np.bincount(corner, minlength=count) + np.bincount(
            corner[border // 3 * 3 + (border + 1) % 3], minlength=count
        )
        return HalfEdges(
            points=points.detach().float().cpu().contiguous().clone(),
            out=torch.from_numpy(out),
            degree=torch.from_numpy(degree.astype(np.int32)),
            kind=torch.zeros(count, dtype=torch.int32),
            marks=torch.zeros(count, dtype=torch.int32),
            corner=torch.from_numpy(corner),
            twin=torch.from_numpy(twin),
            crease=torch.zeros(len(corner), dtype=torch.int32),
            counts=torch.tensor([count, len(faces), 0, 0], dtype=torch.int32),
        )

    @property
    def vertex_count(self) -> int:
        """Vertices in use or removed; the arrays may be longer."""
        return int(self.counts[0])

    @property
    def triangle_count(self) -> int:
        """Triangles in use or removed; the arrays may be longer."""
        return int(self.counts[1])

    @property
    def faces(self) -> Tensor:
        """[T, 3] int32, with rows of −1 for removed triangles."""
        return self.corner[: 3 * self.triangle_count].view(-1, 3)

    @property
    def links(self) -> Links:
        """The arrays for a kernel."""
        links = Links()
        for field in fields(self):
            tensor: Tensor = getattr(self, field.name)
            setattr(links, field.name, bridge.as_array(tensor, wp.vec3 if tensor.dim() == 2 else wp.int32))
        return links

    def reserve(self, more_vertices: int, more_triangles: int) -> None:
        """Make room for so many more."""
        vertices = self.vertex_count + more_vertices
        corners = 3 * (self.triangle_count + more_triangles)
        for field in fields(self):
            old: Tensor = getattr(self, field.name)
            size = corners if field.name in ("corner", "twin", "crease") else vertices
            if field.name != "counts" and len(old) < size:
                setattr(self, field.name, torch.cat([old, old.new_zeros((size - len(old), *old.shape[1:]))]))

    def compact(self) -> tuple[Tensor, Tensor]:
        """Points [V, 3] and faces [T, 3] int64 in use."""
        faces = self.faces[self.faces[:, 0] >= 0].long()
        used = torch.zeros(self.vertex_count, dtype=torch.bool)
        used[faces.reshape(-1)] = True
        number = torch.cumsum(used, 0) - 1
        return self.points[: self.vertex_count][used], number[faces]


def twins(triangles: np.ndarray) -> np.ndarray:
    """Twin [3T] int32 of each half-edge of triangles [T, 3]; −1 where the edge has not just two, of opposite sense."""
    start = triangles.reshape(-1).astype(np.int64)
    end = np.roll(triangles, -1, axis=1).reshape(-1).astype(np.int64)
    base = int(start.max()) + 1 if len(start) else 1
    keys = np.minimum(start, end) * base + np.maximum(start, end)
    order = np.argsort(keys, kind="stable")
    same = np.diff(keys[order], prepend=-1, append=-1) == 0  # entry k: places k − 1 and k
    pair = np.flatnonzero(~same[:-2] & same[1:-1] & ~same[2:]) if len(order) > 1 else np.zeros(0, np.int64)
    one, two = order[pair], order[pair + 1]
    opposite = start[one] == end[two]
    one, two = one[opposite], two[opposite]
    result = np.full(len(start), -1, dtype=np.int32)
    result[one], result[two] = two, one
    return result


@wp.func
def following(h: int) -> int:
    """The next half-edge of the triangle."""
    result = h + 1
    if h % 3 == 2:
        result = h - 2
    return result


@wp.func
def preceding(h: int) -> int:
    """The previous half-edge of the triangle."""
    result = h - 1
    if h % 3 == 0:
        result = h + 2
    return result


@wp.func
def link(m: Links, one: int, two: int) -> None:
    """Make two half-edges twins; either may be −1."""
    if one >= 0:
        m.twin[one] = two
    if two >= 0:
        m.twin[two] = one


@wp.func
def leave(m: Links, h: int) -> None:
    """Let the start of the half-edge be left by it, or by the border half-edge that turning clockwise from it meets."""
    last = int(h)
    across = m.twin[last]
    while across >= 0:
        last = following(across)
        if last == h:
            break
        across = m.twin[last]
    m.out[m.corner[h]] = last


@wp.func
def turn(m: Links, h: int) -> int:
    """The next half-edge counter-clockwise with the same start; −1 after the last."""
    result = m.twin[preceding(h)]
    if result == m.out[m.corner[h]]:
        result = -1
    return result


@wp.func
def joined(m: Links, one: int, two: int) -> bool:
    """Whether an edge joins two vertices."""
    found = wp.bool(False)
    h = m.out[one]
    while h >= 0:
        if m.corner[following(h)] == two or m.corner[preceding(h)] == two:
            found = True
            break
        h = turn(m, h)
    return found


@wp.func
def new_mark(m: Links) -> int:
    """A number that no entry of `marks` has yet."""
    m.counts[3] = m.counts[3] + 1
    return m.counts[3]
