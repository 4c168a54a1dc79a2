# SPDX-License-Identifier: GPL-3.0-or-later
"""The little picture of an asset in the asset browser.

Blender's own generator draws with the GPU in a job of its own: it is slow without a graphics card and does nothing in
the background. This one drops points onto the surface, nearest last, in a fraction of a second anywhere.
"""

from collections.abc import Sequence

import bpy
import numpy as np

SIZE = 256  # pixels, as Blender's previews
FINE = 2 * SIZE  # points are dropped onto a grid twice as fine
POINTS = 600_000  # several for each cell of an asset that fills the picture
TEXTURE = 1024  # the texture is scaled down to this before it is read
LIGHT = np.array([-0.4, 0.5, 0.77], np.float32)  # towards the light, from the viewer: left, above, behind
AMBIENT = 0.35
BEST_ELEVATION = np.radians(20)
THREE_QUARTERS = np.array([[0.8, -0.2, 0.56], [0.6, 0.27, -0.75], [0.0, 0.94, 0.34]])  # columns: right, up, back


def make_preview(asset: bpy.types.Object, texture: bpy.types.Image | None, cameras: Sequence[bpy.types.Object]) -> None:
    """Draws the asset as one of the cameras sees it and stores it as the object's preview."""
    mesh = asset.data
    assert isinstance(mesh, bpy.types.Mesh)
    to_world = np.array(asset.matrix_world, np.float32)
    positions, normals, uvs = _corners(mesh)
    positions = positions @ to_world[:3, :3].T
    normals = normals @ np.linalg.inv(to_world[:3, :3])
    pixels = draw(positions, normals, uvs, _texels(texture), _view(cameras))
    preview = asset.preview_ensure()
    preview.image_size = (SIZE, SIZE)
    preview.image_pixels_float.foreach_set(np.ascontiguousarray(pixels[::-1]).ravel())


def draw(
    positions: np.ndarray, normals: np.ndarray, uvs: np.ndarray, texels: np.ndarray, view: np.ndarray
) -> np.ndarray:
    """An orthographic picture [SIZE, SIZE, 4], row 0 at the top, sRGB, premultiplied.

    positions, normals [T, 3, 3] and uvs [T, 3, 2]: of the corners of triangles. texels [H, W, 3]: sRGB, row 0 at the
    bottom. view [3, 3]: columns right, up, back of whoever looks.
    """
    seen = (positions @ view).astype(np.float32)  # [T, 3, 3]
    corners = seen.reshape(-1, 3)
    if not len(corners):
        return np.zeros((SIZE, SIZE, 4), np.float32)
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = 0.94 * FINE / max(float((high - low)[:2].max()), 1e-12)
    center = (low + high)[:2] / 2
    a, b = seen[:, 1] - seen[:, 0], seen[:, 2] - seen[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]  # [T] positive where the front is seen
    front = np.flatnonzero(area > 0)
    if not len(front):
        return np.zeros((SIZE, SIZE, 4), np.float32)
    random = np.random.default_rng(0)
    share = np.cumsum(area[front], dtype=np.float64)
    # Evenly spaced along the summed areas rather than drawn: fewer holes.
    spots = (np.arange(POINTS) + random.random(POINTS)) * (share[-1] / POINTS)
    chosen = front[np.minimum(np.searchsorted(share, spots), len(front) - 1)]  # [P]
    u, v = random.random((2, POINTS), dtype=np.float32)
    beyond = u + v > 1
    u[beyond], v[beyond] = 1 - u[beyond], 1 - v[beyond]
    weights = np.stack([1 - u - v, u, v], axis=1)[:, :, None]  # [P, 3, 1]

    place = (seen[chosen] * weights).sum(axis=1)  # [P, 3]
    column, row = np.floor((place[:, :2] - center) * scale + FINE / 2).astype(np.int32).clip(0, FINE - 1).T
    nearest = np.full(FINE * FINE, -1, np.int64)
    order = np.argsort(place[:, 2], kind="stable")  # the nearest, which has the largest z, is written last
    nearest[((FINE - 1 - row) * FINE + column)[order]] = order
    hit = np.flatnonzero(nearest >= 0)
    point = nearest[hit]

    color = _lookup(texels, (uvs[chosen[point]] * weights[point]).sum(axis=1))
    normal = (normals[chosen[point]] * weights[point]).sum(axis=1) @ view
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    lit = AMBIENT + (1 - AMBIENT) * np.maximum(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0)
    fine = np.zeros((FINE * FINE, 4), np.float32)
    fine[hit, :3] = color**2.2 * lit[:, None]  # close enough to sRGB for a thumbnail
    fine[hit, 3] = 1
    small = fine.reshape(SIZE, 2, SIZE, 2, 4).mean(axis=(1, 3))
    alpha = small[:, :, 3:]
    small[:, :, :3] = (small[:, :, :3] / np.maximum(alpha, 1e-6)) ** (1 / 2.2) * alpha
    return small


def _lookup(texels: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    height, width = texels.shape[:2]
    columns = (uvs[:, 0] * width).astype(np.int32).clip(0, width - 1)
    rows = (uvs[:, 1] * height).astype(np.int32).clip(0, height - 1)
    return texels[rows, columns]


def _corners(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, normals [T, 3, 3] and UVs [T, 3, 2] of the corners of the mesh's triangles."""
    mesh.calc_loop_triangles()
    count = len(mesh.loop_triangles)
    vertices, loops = np.empty(3 * count, np.int32), np.empty(3 * count, np.int32)
    mesh.loop_triangles.foreach_get("vertices", vertices)
    mesh.loop_triangles.foreach_get("loops", loops)
    positions = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", positions)
    normals = np.empty(3 * len(mesh.loops), np.float32)
    mesh.corner_normals.foreach_get("vector", normals)
    uvs = np.zeros(2 * len(mesh.loops), np.float32)
    if mesh.uv_layers.active is not None:
        mesh.uv_layers.active.uv.foreach_get("vector", uvs)
    return (
        positions.reshape(-1, 3)[vertices].reshape(-1, 3, 3),
        normals.reshape(-1, 3)[loops].reshape(-1, 3, 3),
        uvs.reshape(-1, 2)[loops].reshape(-1, 3, 2),
    )


def _texels(image: bpy.types.Image | None) -> np.ndarray:
    """The picture's colors [H, W, 3], small; one grey where there is none or it cannot be read."""
    if image is None or not (image.size[0] and image.size[1]):
        return np.full((1, 1, 3), 0.6, np.float32)
    small = image.copy()
    try:
        if max(small.size) > TEXTURE:  # reading all of a large texture as floats would cost a gigabyte
            part = TEXTURE / max(small.size)
            small.scale(max(1, round(small.size[0] * part)), max(1, round(small.size[1] * part)))
        width, height = small.size
        values = np.empty(4 * width * height, np.float32)
        small.pixels.foreach_get(values)
    finally:
        bpy.data.images.remove(small)
    return values.reshape(height, width, 4)[:, :, :3]


def _view(cameras: Sequence[bpy.types.Object]) -> np.ndarray:
    """The directions of the camera that looks slightly down, as one looks at things; without cameras, a corner view."""
    rotations = [np.array(camera.matrix_world.to_3x3().normalized(), np.float64) for camera in cameras]
    if not rotations:
        return THREE_QUARTERS.astype(np.float32)
    best = min(rotations, key=lambda rotation: abs(np.arcsin(rotation[2, 2].clip(-1, 1)) - BEST_ELEVATION))
    return best.astype(np.float32)
