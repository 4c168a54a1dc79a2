# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of a voxel grid of density and color: one kernel renders rays and sends their error back.

After Sun et al. 2022, "Direct Voxel Grid Optimization": raw values are interpolated first and activated then, so that a
surface inside a cell can be sharp; a sample of length s has opacity α = 1 − exp(−softplus(raw) · s), s in cells. A ray
is marched twice, the second time with its final color known, so that no sample need be stored: with transmittance T_i
before sample i and C the color of the whole ray, ∂C/∂α_i = T_i c_i − (C − C_≤i) / (1 − α_i).

`reference_march` is the same in torch, for the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch, launch_range

wp.set_module_options(MODULE_OPTIONS)

STEP = wp.constant(wp.float32(0.5))  # between two samples, cells
OPAQUE = wp.constant(wp.float32(1e-3))  # transmittance at which a ray ends
MAX_SAMPLES = wp.constant(4096)


@dataclass(frozen=True)
class RayGrid:
    """Where the voxels stand, and what is known to be empty.

    Attributes:
        origin: world position of voxel (0, 0, 0).
        cell: distance of two voxels, world units.
        shape: voxels along x, y, z; z is fastest in memory.
        empty: [X·Y·Z] float32, how far each voxel is outside the visual hull, cells; negative inside.
    """

    origin: tuple[float, float, float]
    cell: float
    shape: tuple[int, int, int]
    empty: Tensor

    def arguments(self) -> list[object]:
        """As the kernels take them."""
        return [wp.vec3(*self.origin), self.cell, wp.vec3i(*self.shape), as_warp(self.empty, wp.float32)]


@wp.struct
class Cell:
    """The eight voxels around a point: the lowest of them, strides to the others, and the place between them."""

    first: wp.int32
    dx: wp.int32
    dy: wp.int32
    f: wp.vec3


@wp.func
@no_type_check
def _cell_at(u: wp.vec3, shape: wp.vec3i) -> Cell:
    """Cell of grid coordinates `u`, clamped to the grid."""
    x = wp.clamp(int(u[0]), 0, shape[0] - 2)
    y = wp.clamp(int(u[1]), 0, shape[1] - 2)
    z = wp.clamp(int(u[2]), 0, shape[2] - 2)
    cell = Cell()
    cell.first = (x * shape[1] + y) * shape[2] + z
    cell.dx = shape[1] * shape[2]
    cell.dy = shape[2]
    cell.f = wp.vec3(
        wp.clamp(u[0] - float(x), 0.0, 1.0), wp.clamp(u[1] - float(y), 0.0, 1.0), wp.clamp(u[2] - float(z), 0.0, 1.0)
    )
    return cell


@wp.func
@no_type_check
def _voxel(cell: Cell, k: int) -> int:
    """Number of corner k of a cell, bits x, y, z."""
    return cell.first + (k & 1) * cell.dx + ((k >> 1) & 1) * cell.dy + (k >> 2)


@wp.func
@no_type_check
def _weight(cell: Cell, k: int) -> float:
    """Trilinear weight of corner k."""
    x = wp.where((k & 1) == 1, cell.f[0], 1.0 - cell.f[0])
    y = wp.where(((k >> 1) & 1) == 1, cell.f[1], 1.0 - cell.f[1])
    z = wp.where((k >> 2) == 1, cell.f[2], 1.0 - cell.f[2])
    return x * y * z


@wp.func
@no_type_check
def _read(values: wp.array(dtype=wp.vec4), cell: Cell) -> wp.vec4:
    total = wp.vec4(0.0, 0.0, 0.0, 0.0)
    for k in range(8):
        total += _weight(cell, k) * values[_voxel(cell, k)]
    return total


@wp.func
@no_type_check
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + wp.exp(-x))


@wp.func
@no_type_check
def _softplus(x: float) -> float:
    return wp.max(x, 0.0) + wp.log(1.0 + wp.exp(-wp.abs(x)))


@wp.func
@no_type_check
def _color(raw: wp.vec4) -> wp.vec3:
    return wp.vec3(_sigmoid(raw[1]), _sigmoid(raw[2]), _sigmoid(raw[3]))


@wp.func
@no_type_check
def _camera_ray(pixel: int, width: int, intrinsics: wp.vec4, cam_to_world: wp.mat44) -> wp.vec3:
    """Unit direction, world, through the center of a pixel of one image."""
    i = pixel / width
    j = pixel - i * width
    x = (float(j) + 0.5 - intrinsics[2]) / intrinsics[0]
    y = -(float(i) + 0.5 - intrinsics[3]) / intrinsics[1]
    return wp.normalize(wp.transform_vector(cam_to_world, wp.vec3(x, y, -1.0)))


@wp.func
@no_type_check
def _camera_center(cam_to_world: wp.mat44, origin: wp.vec3, cell_size: float) -> wp.vec3:
    """Grid coordinates of a camera."""
    return (wp.vec3(cam_to_world[0, 3], cam_to_world[1, 3], cam_to_world[2, 3]) - origin) / cell_size


@wp.func
@no_type_check
def _skipped(free: float) -> float:
    """How far a ray may go on from a voxel so far outside the hull, both in cells; 0: not at all."""
    return wp.where(free > 1.5, wp.max(STEP, free - 1.0), 0.0)


@wp.func
@no_type_check
def _span(origin: wp.vec3, direction: wp.vec3, shape: wp.vec3i) -> wp.vec2:
    """First and last t of a ray, grid units, inside the grid; empty if the first is larger."""
    near = wp.float32(0.0)
    far = wp.float32(1.0e9)
    for k in range(3):
        d = direction[k]
        if wp.abs(d) < 1.0e-9:
            d = 1.0e-9
        a = -origin[k] / d
        b = (float(shape[k] - 1) - origin[k]) / d
        near = wp.max(near, wp.min(a, b))
        far = wp.min(far, wp.max(a, b))
    return wp.vec2(near, far)


@wp.func
@no_type_check
def _nearest(u: wp.vec3, shape: wp.vec3i) -> int:
    x = wp.clamp(int(u[0] + 0.5), 0, shape[0] - 1)
    y = wp.clamp(int(u[1] + 0.5), 0, shape[1] - 1)
    z = wp.clamp(int(u[2] + 0.5), 0, shape[2] - 1)
    return (x * shape[1] + y) * shape[2] + z


@wp.kernel
@no_type_check
def _train_rays(
    begin: int,
    origin: wp.vec3,
    cell_size: float,
    shape: wp.vec3i,
    empty: wp.array(dtype=wp.float32),
    values: wp.array(dtype=wp.vec4),
    pixels: wp.array(dtype=wp.int32),
    jitter: wp.array(dtype=wp.float32),
    height: int,
    width: int,
    intrinsics: wp.array(dtype=wp.vec4),
    cam_to_world: wp.array(dtype=wp.mat44),
    images: wp.array(dtype=wp.vec4h),
    backgrounds: wp.array(dtype=wp.vec3),
    single: float,
    gradient: wp.array(dtype=wp.vec4),
    errors: wp.array(dtype=wp.float32),
):
    ray = begin + wp.tid()
    per_view = height * width
    view = pixels[ray] / per_view
    target4 = images[pixels[ray]]
    target = wp.vec3(float(target4[0]), float(target4[1]), float(target4[2]))
    alpha = float(target4[3])
    background = backgrounds[ray]
    wanted = target + (1.0 - alpha) * background
    direction = _camera_ray(pixels[ray] - view * per_view, width, intrinsics[view], cam_to_world[view])
    start = _camera_center(cam_to_world[view], origin, cell_size)
    span = _span(start, direction, shape)

    color = wp.vec3(0.0, 0.0, 0.0)
    through = wp.float32(1.0)
    t = span[0] + STEP * jitter[ray]
    for _n in range(MAX_SAMPLES):
        if t >= span[1] or through < OPAQUE:
            break
        u = start + t * direction
        skipped = _skipped(empty[_nearest(u, shape)])
        if skipped > 0.0:
            t += skipped
        else:
            raw = _read(values, _cell_at(u, shape))
            opacity = 1.0 - wp.exp(-_softplus(raw[0]) * STEP)
            color += through * opacity * _color(raw)
            through *= 1.0 - opacity
            t += STEP

    difference = color + through * background - wanted
    coverage = 1.0 - through - alpha
    errors[ray] = wp.dot(difference, difference) / 3.0
    to_color = 2.0 * difference
    to_through = wp.dot(to_color, background) - 2.0 * coverage
    sought = target / wp.max(alpha, 1.0e-3)

    passed = wp.vec3(0.0, 0.0, 0.0)
    before = wp.float32(1.0)
    t = span[0] + STEP * jitter[ray]
    for _n in range(MAX_SAMPLES):
        if t >= span[1] or before < OPAQUE:
            break
        u = start + t * direction
        skipped = _skipped(empty[_nearest(u, shape)])
        if skipped > 0.0:
            t += skipped
        else:
            cell = _cell_at(u, shape)
            raw = _read(values, cell)
            opacity = 1.0 - wp.exp(-_softplus(raw[0]) * STEP)
            c = _color(raw)
            share = before * opacity
            passed += share * c
            rest = wp.dot(to_color, color - passed) + to_through * through
            to_raw = STEP * _sigmoid(raw[0]) * (before * (1.0 - opacity) * wp.dot(to_color, c) - rest)
            to_c = share * (to_color + (2.0 * single * alpha) * (c - sought))
            to_values = wp.vec4(
                to_raw,
                to_c[0] * c[0] * (1.0 - c[0]),
                to_c[1] * c[1] * (1.0 - c[1]),
                to_c[2] * c[2] * (1.0 - c[2]),
            )
            for k in range(8):
                wp.atomic_add(gradient, _voxel(cell, k), _weight(cell, k) * to_values)
            before *= 1.0 - opacity
            t += STEP


@wp.kernel
@no_type_check
def _find_depth(
    begin: int,
    origin: wp.vec3,
    cell_size: float,
    shape: wp.vec3i,
    empty: wp.array(dtype=wp.float32),
    values: wp.array(dtype=wp.vec4),
    height: int,
    width: int,
    intrinsics: wp.array(dtype=wp.vec4),
    cam_to_world: wp.array(dtype=wp.mat44),
    depth: wp.array(dtype=wp.float32),
):
    """Distance, world units, at which half of the light is gone; −1 where it passes."""
    ray = begin + wp.tid()
    per_view = height * width
    view = ray / per_view
    direction = _camera_ray(ray - view * per_view, width, intrinsics[view], cam_to_world[view])
    start = _camera_center(cam_to_world[view], origin, cell_size)
    span = _span(start, direction, shape)
    found = wp.float32(-1.0)
    through = wp.float32(1.0)
    t = span[0]
    for _n in range(MAX_SAMPLES):
        if t >= span[1]:
            break
        u = start + t * direction
        skipped = _skipped(empty[_nearest(u, shape)])
        if skipped > 0.0:
            t += skipped
        else:
            raw = _read(values, _cell_at(u, shape))
            density = _softplus(raw[0])
            after = through * wp.exp(-density * STEP)
            if after < 0.5:
                found = (t + wp.log(2.0 * through) / density) * cell_size
                break
            through = after
            t += STEP
    depth[ray] = found


@dataclass(frozen=True)
class Cameras:
    """N pinhole cameras with images of one size: intrinsics [N, 4] fx fy cx cy, cam_to_world [N, 4, 4] float32."""

    intrinsics: Tensor
    cam_to_world: Tensor
    resolution: tuple[int, int]

    def arguments(self) -> list[object]:
        """As the kernels take them."""
        return [*self.resolution, as_warp(self.intrinsics, wp.vec4), as_warp(self.cam_to_world, wp.mat44)]


def train_rays(
    grid: RayGrid,
    values: Tensor,
    cameras: Cameras,
    images: Tensor,
    pixels: Tensor,
    jitter: Tensor,
    backgrounds: Tensor,
    single: float,
    gradient: Tensor,
) -> Tensor:
    """Render rays, add the gradient of their error to `gradient`, and return the squared errors [R].

    The error of a ray is |C + T·background − wanted|² + (1 − T − alpha)² + `single` · Σ w_i alpha |c_i − color|², the
    last without gradient to the weights: every sample alone should have the color of the pixel (Sun et al. 2022).

    Args:
        values: [X·Y·Z, 4] float32: raw density, and raw color, whose sigmoid is sRGB-encoded.
        images: [N·H·W, 4] float16, premultiplied, sRGB-encoded.
        pixels: [R] int32 into `images`.
        jitter: [R] float32 in 0..1, place of the first sample within a step.
        backgrounds: [R, 3] float32.
        gradient: [X·Y·Z, 4] float32.
    """
    errors = torch.empty(len(pixels), device=values.device)
    launch(
        _train_rays,
        len(pixels),
        [0, *grid.arguments(), as_warp(values, wp.vec4), as_warp(pixels, wp.int32), as_warp(jitter, wp.float32)]
        + [*cameras.arguments(), as_warp(images, wp.vec4h), as_warp(backgrounds, wp.vec3), single],
        [as_warp(gradient, wp.vec4), as_warp(errors, wp.float32)],
        values.device,
    )
    return errors


def find_depth(grid: RayGrid, values: Tensor, cameras: Cameras) -> Tensor:
    """Distances [N, H, W] float32, world units, from the cameras to where half the light is gone; −1: nowhere."""
    count = len(cameras.intrinsics) * cameras.resolution[0] * cameras.resolution[1]
    depth = torch.empty(count, device=values.device)
    launch_range(
        _find_depth,
        count,
        [*grid.arguments(), as_warp(values, wp.vec4), *cameras.arguments()],
        [as_warp(depth, wp.float32)],
        values.device,
    )
    return depth.view(-1, *cameras.resolution)
