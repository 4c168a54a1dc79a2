# SPDX-License-Identifier: GPL-3.0-or-later
"""Closest points on a triangle mesh, through Warp's bounding volume hierarchy."""

import torch
import warp as wp
from torch import Tensor

from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)


@wp.kernel
def _closest(
    first: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    largest: float,
    nearest: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.int32),
):
    i = first + wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[i], largest)
    faces[i] = -1
    nearest[i] = points[i]
    if query.result:
        faces[i] = query.face
        nearest[i] = wp.mesh_eval_position(mesh, query.face, query.u, query.v)


class ClosestPoint:
    """Answers for points [P, 3] their closest point on a fixed mesh, on the mesh's device. No gradient."""

    def __init__(self, vertices: Tensor, triangles: Tensor):
        self.device = vertices.device
        points = bridge.as_array(vertices.float(), wp.vec3)
        indices = bridge.as_array(triangles.to(torch.int32).reshape(-1), wp.int32)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the tree is built on Warp's stream
        self._mesh = wp.Mesh(points, indices)
        if self.device.type == "cuda":
            wp.synchronize_device(bridge.warp_device(self.device))

    def __call__(self, points: Tensor, largest: float = 1e30) -> tuple[Tensor, Tensor]:
        """Closest points [P, 3] and their triangles [P] int32 (−1 and the point itself beyond distance `largest`)."""
        points = points.detach().float().contiguous()
        nearest = torch.empty_like(points)
        faces = torch.empty(len(points), dtype=torch.int32, device=points.device)
        bridge.launch_range(
            _closest,
            len(points),
            [self._mesh.id, bridge.as_warp(points, wp.vec3), float(largest)],
            [bridge.as_warp(nearest, wp.vec3), bridge.as_warp(faces, wp.int32)],
            self.device,
        )
        return nearest, faces
