# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the mesh that a running job shows, into arrays that Blender takes as they are (numpy, no bpy).

All that costs time happens here, where a thread can do it: checking, the edges that Blender wants, linear colors.
"""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backend.job import open_regular

HEADER_BYTES = 1024
MOST_ELEMENTS = 20_000_000  # a broken header must not ask for all memory
HEADER = re.compile(
    rb"ply\nformat binary_little_endian 1\.0\nelement vertex (\d{1,9})\n"
    rb"property float x\nproperty float y\nproperty float z\n"
    rb"property uchar red\nproperty uchar green\nproperty uchar blue\n"
    rb"element face (\d{1,9})\nproperty list uchar int vertex_indices\nend_header\n"
)
VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])

_CODES = np.arange(256) / 255
LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)  # [256]


@dataclass(frozen=True)
class PreviewMesh:
    """A triangle mesh, every array flat and contiguous."""

    path: Path
    positions: np.ndarray  # [3 V] float32, world
    colors: np.ndarray  # [4 V] float32, linear
    corners: np.ndarray  # [3 T] int32, a vertex each
    corner_edges: np.ndarray  # [3 T] int32, the edge from each corner to the next
    edges: np.ndarray  # [2 E] int32

    @property
    def counts(self) -> tuple[int, int, int]:
        """Vertices, edges, triangles."""
        return len(self.positions) // 3, len(self.edges) // 2, len(self.corners) // 3


def read_preview(path: Path) -> PreviewMesh:
    """The mesh in a file as backend/optimization/preview.py writes it.

    Raises OSError, or ValueError for a file that is anything else: Blender would crash on a corner without a vertex.
    """
    with open_regular(path) as file:
        header = HEADER.match(file.read(HEADER_BYTES))
        if header is None:
            raise ValueError(f"{path}: no preview; expected a binary PLY file of colored triangles")
        vertex_count, face_count = (int(group) for group in header.groups())
        size = header.end() + vertex_count * VERTEX.itemsize + face_count * FACE.itemsize
        if max(vertex_count, face_count) > MOST_ELEMENTS or os.fstat(file.fileno()).st_size != size:
            raise ValueError(f"{path}: damaged preview; expected {size} bytes")
        file.seek(header.end())
        data = file.read(size - header.end())
    vertices = np.frombuffer(data, VERTEX, vertex_count)
    faces = np.frombuffer(data, FACE, face_count, vertex_count * VERTEX.itemsize)
    positions = np.ascontiguousarray(vertices["position"], np.float32)
    triangles = np.ascontiguousarray(faces["corners"], np.int32)  # [T, 3]
    if not face_count or (faces["count"] != 3).any() or not np.isfinite(positions).all():
        raise ValueError(f"{path}: damaged preview; expected triangles between finite points")
    if triangles.min() < 0 or triangles.max() >= vertex_count:
        raise ValueError(f"{path}: damaged preview; expected corners from 0 to {vertex_count - 1}")
    first, second, third = triangles.T
    whole = (first != second) & (second != third) & (third != first)
    triangles = triangles[whole]
    if not len(triangles):
        raise ValueError(f"{path}: empty preview; expected triangles")
    colors = np.ones((vertex_count, 4), np.float32)
    colors[:, :3] = LINEAR[vertices["color"]]
    edges, corner_edges = edges_of(triangles)
    return PreviewMesh(path, positions.ravel(), colors.ravel(), triangles.ravel(), corner_edges, edges.ravel())


def edges_of(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every edge once, [E, 2] int32, and which one starts at each corner of the triangles [T, 3], [3 T] int32."""
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    key = np.minimum(start, end).astype(np.int64) << 32 | np.maximum(start, end)
    unique, corner_edges = np.unique(key, return_inverse=True)
    edges = np.stack([unique >> 32, unique & 0xFFFFFFFF], axis=1).astype(np.int32)
    return edges, corner_edges.astype(np.int32).ravel()


class PreviewReader:
    """Reads one file at a time in a thread. What is asked for meanwhile is left out: a newer one comes soon."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: PreviewMesh | None = None
        self.refused: Path | None = None  # the last file that could not be read; asking again would be in vain

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def ask(self, path: Path) -> None:
        """Begins to read a file, unless another one is being read or waits to be taken."""
        if self.busy or self._done is not None or path == self.refused:
            return
        # A daemon: Blender's end does not wait for a network drive.
        self._thread = threading.Thread(target=self._read, args=(path,), name="unrender-preview", daemon=True)
        self._thread.start()

    def take(self) -> PreviewMesh | None:
        """What was read since the last call, once."""
        done, self._done = self._done, None
        return done

    def _read(self, path: Path) -> None:
        try:
            self._done = read_preview(path)
        except (OSError, ValueError, MemoryError):
            self.refused = path
