# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays against a triangle mesh: occlusion, closest hits, and both for many directions at every vertex.

Warp's mesh carries the bounding volume hierarchy. Both sides of a triangle stop a ray. Margins against hits on the
surface a ray starts from are the caller's: `t_min`, or the offset along the normal.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, no_type_check

import torch
import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS, as_array, as_warp, launch

wp.set_module_options(MODULE_OPTIONS)

# float32 has no larger finite number; the hierarchy's slab test wants finite bounds
_FAR = 3.0e38
# below this many rays starting the threads costs more than it saves
_RAYS_A_THREAD = 20000


class Occluder:
    """A mesh that rays can be traced against. Keep it until the work launched with it is done."""

    def __init__(self, vertices: torch.Tensor, triangles: torch.Tensor) -> None:
        """vertices [V, 3] float32, triangles [T, 3] int32 or int64, on one device. The vertices are copied."""
        assert vertices.dim() == 2 and vertices.shape[1] == 3 and vertices.dtype == torch.float32
        assert triangles.dim() == 2 and triangles.shape[1] == 3 and triangles.device == vertices.device
        self.device = vertices.device
        self._vertices = vertices.detach().clone(memory_format=torch.contiguous_format)
        # a copy, not a view, lest the caller's changes reach into the hierarchy
        self._triangles = triangles.detach().to(torch.int32, copy=True).contiguous()
        self._mesh: Any = None
        if triangles.shape[0] > 0:
            with _current_stream(self.device):
                self._mesh = wp.Mesh(
                    as_array(self._vertices, wp.vec3),
                    as_array(self._triangles.view(-1), wp.int32),
                )

    def refit(self, vertices: torch.Tensor) -> None:
        """Move the vertices [V, 3]; topology stays. Cheaper than a new Occluder; large moves make tracing slow."""
        assert vertices.shape == self._vertices.shape and vertices.device == self.device
        self._vertices.copy_(vertices.detach())
        if self._mesh is not None:
            with _current_stream(self.device):
                self._mesh.refit()

    def any_hit(
        self, origins: torch.Tensor, directions: torch.Tensor, t_min: float = 0.0, t_max: float = math.inf
    ) -> torch.Tensor:
        """True where something lies between t_min and t_max along a ray -> bool [R].

        origins, directions [R, 3] float32, world; t counts lengths of the direction, which need not be 1.
        """
        origins, directions = self._check(origins, directions)
        hits = torch.zeros(origins.shape[0], dtype=torch.bool, device=self.device)
        if self._mesh is not None and origins.shape[0] > 0:
            _launch(
                ray_any_hit,
                origins.shape[0],
                [self._mesh.id, as_warp(origins, wp.vec3), as_warp(directions, wp.vec3), t_min, min(t_max, _FAR)],
                [as_warp(hits, wp.bool)],
                self.device,
            )
        return hits

    def closest_hit(
        self, origins: torch.Tensor, directions: torch.Tensor, t_min: float = 0.0, t_max: float = math.inf
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First triangle along each ray, −1 for none, and its t (infinite for none) -> int32 [R], float32 [R].

        origins, directions [R, 3] float32, world; t counts lengths of the direction, which need not be 1.
        """
        origins, directions = self._check(origins, directions)
        triangles = torch.full((origins.shape[0],), -1, dtype=torch.int32, device=self.device)
        distances = torch.full((origins.shape[0],), math.inf, device=self.device)
        if self._mesh is not None and origins.shape[0] > 0:
            _launch(
                ray_closest_hit,
                origins.shape[0],
                [self._mesh.id, as_warp(origins, wp.vec3), as_warp(directions, wp.vec3), t_min, min(t_max, _FAR)],
                [as_warp(triangles, wp.int32), as_warp(distances, wp.float32)],
                self.device,
            )
        return triangles, distances

    def _check(self, origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for rays in (origins, directions):
            assert rays.dim() == 2 and rays.shape[1] == 3 and rays.dtype == torch.float32
            assert rays.device == self.device
        assert origins.shape == directions.shape
        return origins.detach().contiguous(), directions.detach().contiguous()


def vertex_visibility(
    occluder: Occluder, points: torch.Tensor, normals: torch.Tensor, directions: torch.Tensor, offset: float
) -> torch.Tensor:
    """The triangle that each point sees in each direction -> [N, K] int32, −1 where the way is clear.

    points, normals [N, 3], directions [K, 3] float32, world, normals and directions of length 1. Rays start at
    point + offset · normal. Directions at or below the horizon (n·w <= 0) are −1 without being traced.
    """
    hits = torch.full((points.shape[0], directions.shape[0]), -1, dtype=torch.int32, device=points.device)
    _trace_vertices(vertex_closest_hit, occluder, points, normals, directions, offset, hits, wp.int32)
    return hits


def vertex_occlusion(
    occluder: Occluder, points: torch.Tensor, normals: torch.Tensor, directions: torch.Tensor, offset: float
) -> torch.Tensor:
    """True where something stands in the way -> bool [N, K]. Like `vertex_visibility`; False below the horizon."""
    hits = torch.zeros(points.shape[0], directions.shape[0], dtype=torch.bool, device=points.device)
    _trace_vertices(vertex_any_hit, occluder, points, normals, directions, offset, hits, wp.bool)
    return hits


def _trace_vertices(
    kernel: Any,
    occluder: Occluder,
    points: torch.Tensor,
    normals: torch.Tensor,
    directions: torch.Tensor,
    offset: float,
    hits: torch.Tensor,
    dtype: Any,
) -> None:
    for rays in (points, normals, directions):
        assert rays.dim() == 2 and rays.shape[1] == 3 and rays.dtype == torch.float32
        assert rays.device == occluder.device
    assert points.shape == normals.shape
    points, normals, directions = points.contiguous(), normals.contiguous(), directions.contiguous()
    if occluder._mesh is not None and hits.numel() > 0:
        _launch(
            kernel,
            hits.numel(),
            [occluder._mesh.id, as_warp(points, wp.vec3), as_warp(normals, wp.vec3), as_warp(directions, wp.vec3)]
            + [points.shape[0], directions.shape[0], offset],
            [as_warp(hits.view(-1), dtype)],
            occluder.device,
        )


def _current_stream(device: torch.device) -> Any:
    """Have Warp's own work (building and refitting the hierarchy) run on torch's current stream."""
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    return wp.ScopedStream(stream, sync_enter=False)


@cache
def _load(device: torch.device) -> None:
    """Compile before several threads ask for it at once."""
    wp.load_module(__name__, device=str(device))


def _launch(kernel: Any, rays: int, inputs: list[Any], outputs: list[Any], device: torch.device) -> None:
    """Launch over all rays; on the CPU as ranges on torch's number of threads, since rays share nothing they write and
    Warp, which runs a launch on one core, lets go of Python's lock."""
    threads = min(torch.get_num_threads(), rays // _RAYS_A_THREAD) if device.type == "cpu" else 1
    if threads <= 1:
        launch(kernel, rays, [0, *inputs], outputs, device)
        return
    _load(device)
    starts = [rays * thread // threads for thread in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for job in [
            pool.submit(launch, kernel, end - start, [start, *inputs], outputs, device)
            for start, end in zip(starts, starts[1:])
        ]:
            job.result()


@wp.kernel
@no_type_check
def ray_any_hit(
    first: int,
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    t_min: float,
    t_max: float,
    hits: wp.array(dtype=wp.bool),
):
    ray = first + wp.tid()
    direction = directions[ray]
    hits[ray] = wp.mesh_query_ray_anyhit(mesh, origins[ray] + t_min * direction, direction, t_max - t_min)


@wp.kernel
@no_type_check
def ray_closest_hit(
    first: int,
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    t_min: float,
    t_max: float,
    triangles: wp.array(dtype=wp.int32),
    distances: wp.array(dtype=wp.float32),
):
    ray = first + wp.tid()
    direction = directions[ray]
    hit = wp.mesh_query_ray(mesh, origins[ray] + t_min * direction, direction, t_max - t_min)
    if hit.result:
        triangles[ray] = hit.face
        distances[ray] = hit.t + t_min


# Neighboring threads are neighboring points in one direction: their rays walk the hierarchy alike.


@wp.kernel
@no_type_check
def vertex_closest_hit(
    first: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    point_count: int,
    direction_count: int,
    offset: float,
    hits: wp.array(dtype=wp.int32),
):
    thread = first + wp.tid()
    k = thread // point_count
    point = thread - k * point_count
    normal = normals[point]
    if wp.dot(normal, directions[k]) > 0.0:
        hit = wp.mesh_query_ray(mesh, points[point] + offset * normal, directions[k], 3.0e38)
        if hit.result:
            hits[point * direction_count + k] = hit.face


@wp.kernel
@no_type_check
def vertex_any_hit(
    first: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    point_count: int,
    direction_count: int,
    offset: float,
    hits: wp.array(dtype=wp.bool),
):
    thread = first + wp.tid()
    k = thread // point_count
    point = thread - k * point_count
    normal = normals[point]
    if wp.dot(normal, directions[k]) > 0.0:
        hits[point * direction_count + k] = wp.mesh_query_ray_anyhit(
            mesh, points[point] + offset * normal, directions[k], 3.0e38
        )
