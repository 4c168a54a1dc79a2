# SPDX-License-Identifier: GPL-3.0-or-later
"""A small asset whose every part can be told from every other: a unit cube with one texture tile per face."""

from __future__ import annotations

import numpy as np

from backend.export.asset import Asset, FloatArray

# outward normal, then the directions of +u and +v on the face; u × v = normal
FACES = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
)

TILT = np.array([0.36, -0.48, 0.8], np.float32)
"""What the cube's normal map says everywhere: towards +u, away from +v."""


def cube(texture: int = 96, center: tuple[float, float, float] = (0.3, -0.2, 0.5), tangents: bool = False) -> Asset:
    """A cube of edge 2 with flat faces; the faces take the tiles of a 3 × 2 atlas, from the bottom left."""
    vertices, normals, triangles, uvs, frames = [], [], [], [], []
    for face, axes in enumerate(FACES):
        n, u, v = (np.array(axis, np.float32) for axis in axes)
        corner = 4 * face
        low = np.array([face % 3 / 3, face // 3 / 2])
        for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)):
            vertices.append(n + (2 * i - 1) * u + (2 * j - 1) * v + np.array(center))
            normals.append(n)
        corners = [low + np.array([0.02 + 0.28 * i, 0.02 + 0.44 * j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        for order in ((0, 1, 2), (0, 2, 3)):
            triangles.append([corner + k for k in order])
            uvs.append([corners[k] for k in order])
            frames.append([[*u, 1.0]] * 3)
    return Asset(
        vertices=np.array(vertices, np.float32),
        triangles=np.array(triangles, np.int32),
        normals=np.array(normals, np.float32),
        uvs=np.array(uvs, np.float32),
        base_color=checker(texture),
        roughness=np.linspace(0.2, 0.9, texture, dtype=np.float32)[None].repeat(texture, 0),
        metallic=(np.arange(texture) >= texture // 2).astype(np.float32)[:, None].repeat(texture, 1),
        normal_map=np.tile(TILT, (texture, texture, 1)),
        environment=compass(),
        tangents=np.array(frames, np.float32) if tangents else None,
        name="Cube",
    )


def checker(size: int) -> FloatArray:
    """Linear colors [size, size, 3]: red grows with the column, green with the row, blue alternates."""
    row, column = np.mgrid[:size, :size].astype(np.float32) / (size - 1)
    squares = ((np.mgrid[:size, :size] * 12 // size).sum(axis=0) % 2).astype(np.float32)
    return np.stack([0.05 + 0.9 * column, 0.05 + 0.9 * row, 0.1 + 0.8 * squares], axis=-1)


def compass(height: int = 32) -> FloatArray:
    """A lat-long picture [h, 2h, 3] that differs in every direction: +x red, +y green, +z blue, brighter upwards."""
    v = 1 - (np.arange(height) + 0.5) / height
    u = (np.arange(2 * height) + 0.5) / (2 * height)
    elevation, azimuth = np.meshgrid((v - 0.5) * np.pi, (0.5 - u) * 2 * np.pi, indexing="ij")
    x, y, z = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    return (0.55 + 0.5 * np.stack([x, y, z], axis=-1)).astype(np.float32)
