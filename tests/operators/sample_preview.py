# SPDX-License-Identifier: GPL-3.0-or-later
"""Previews as a running job writes them, with numpy alone: independent of `backend.optimization.preview` on purpose."""

from pathlib import Path

import numpy as np


def sphere(rows: int, columns: int, radius: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [rows * columns, 3] float32 and triangles [2 (rows - 1) columns, 3] int32 of an open sphere."""
    polar, around = np.meshgrid(
        np.linspace(0.01, np.pi - 0.01, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    axes = np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)
    row, column = (index.ravel() for index in np.mgrid[: rows - 1, :columns])
    following = (column + 1) % columns
    a, b = row * columns + column, row * columns + following
    triangles = np.concatenate([np.stack([a, a + columns, b], 1), np.stack([b, a + columns, b + columns], 1)])
    return (radius * np.stack(axes, -1)).reshape(-1, 3).astype(np.float32), triangles.astype(np.int32)


def ply(vertices: np.ndarray, triangles: np.ndarray, colors: np.ndarray | None = None) -> bytes:
    """The file. Colors [V, 3] uint8 are sRGB; without them the mesh is red."""
    points = np.zeros(len(vertices), [("position", "<f4", 3), ("color", "u1", 3)])
    points["position"] = vertices
    points["color"] = (255, 0, 0) if colors is None else colors
    faces = np.zeros(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return header.encode() + points.tobytes() + faces.tobytes()


def write(capture: Path, *previews: bytes) -> None:
    """Where the stand-in's scenario 'show' takes them from."""
    folder = capture / "previews"
    folder.mkdir()
    for number, data in enumerate(previews):
        (folder / f"mesh_{number:04}.ply").write_bytes(data)
