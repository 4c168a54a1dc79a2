# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction as plain arrays: what the optimizer hands over and what a result folder holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

RANGE_TOLERANCE = 1e-3
"""How far a value may leave its range (or a unit vector its length) before it counts as a mistake of ours."""


@dataclass(frozen=True)
class Asset:
    """One textured triangle mesh and the light it stands in.

    World space is the capture's own: right-handed, Z up. Triangles are counter-clockwise seen from outside.
    Textures have row 0 at the top while `uvs` have v up: the texel of (u, v) lies at row (1 − v)·H − 0.5.
    `environment` is a lat-long picture, row 0 towards +Z, column u·w with u = 0.5 − atan2(y, x)/2π.

    Raises AssertionError, naming the field and the offending value, where the arrays contradict each other.
    """

    vertices: FloatArray  # [V, 3] float32, world
    triangles: IntArray  # [T, 3] int32, into vertices
    normals: FloatArray  # [V, 3] float32, world, unit length
    uvs: FloatArray  # [T, 3, 2] float32, of each triangle corner, origin bottom left
    base_color: FloatArray  # [H, W, 3] float32, linear Rec.709, 0..1
    roughness: FloatArray  # [H, W] float32, 0..1
    metallic: FloatArray  # [H, W] float32, 0..1
    normal_map: FloatArray  # [H, W, 3] float32, tangent space, unit length, +Y up the texture
    environment: FloatArray  # [h, w, 3] float32, linear Rec.709, radiance ≥ 0
    tangents: FloatArray | None = (
        None  # [T, 3, 4] float32, of each corner: world direction of +u, sign of the bitangent
    )
    name: str = "Asset"

    def __post_init__(self) -> None:
        self._check_shapes()
        for field in ("vertices", "normals", "uvs", "base_color", "roughness", "metallic", "normal_map", "environment"):
            _check_finite(field, getattr(self, field))
        if len(self.triangles):
            low, high = int(self.triangles.min()), int(self.triangles.max())
            assert 0 <= low and high < len(self.vertices), (
                f"triangles: corners run from {low} to {high}, but there are {len(self.vertices)} vertices"
            )
        for field in ("base_color", "roughness", "metallic"):
            _check_range(field, getattr(self, field), 0.0, 1.0)
        _check_range("environment", self.environment, 0.0, float("inf"))
        _check_unit("normals", self.normals)
        _check_unit("normal_map", self.normal_map)
        if self.tangents is not None:
            _check_finite("tangents", self.tangents)
            _check_unit("tangents", self.tangents[..., :3])
        assert self.name and not set(self.name) & set('/\\:*?"<>|\0'), f"name: {self.name!r} cannot name a file"

    def _check_shapes(self) -> None:
        shapes: dict[str, tuple[tuple[int | None, ...], type]] = {
            "vertices": ((None, 3), np.float32),
            "triangles": ((None, 3), np.int32),
            "normals": ((len(self.vertices), 3), np.float32),
            "uvs": ((len(self.triangles), 3, 2), np.float32),
            "base_color": ((None, None, 3), np.float32),
            "roughness": ((None, None), np.float32),
            "metallic": (self.roughness.shape, np.float32),
            "normal_map": ((None, None, 3), np.float32),
            "environment": ((None, None, 3), np.float32),
        }
        if self.tangents is not None:
            shapes["tangents"] = ((len(self.triangles), 3, 4), np.float32)
        for field, (shape, dtype) in shapes.items():
            array = getattr(self, field)
            assert isinstance(array, np.ndarray), f"{field}: expected a numpy array, got {type(array).__name__}"
            fits = len(array.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape))
            wanted = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
            assert fits, f"{field}: expected shape {wanted}, got {list(array.shape)}"
            assert array.dtype == dtype, f"{field}: expected {np.dtype(dtype).name}, got {array.dtype.name}"
            assert array.size or field in ("vertices", "triangles", "normals", "uvs", "tangents"), f"{field}: is empty"


def _check_finite(field: str, array: FloatArray) -> None:
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    assert not bad, f"{field}: {bad} of {array.size} values are NaN or infinite"


def _check_range(field: str, array: FloatArray, low: float, high: float) -> None:
    found = float(array.min()), float(array.max())
    assert low - RANGE_TOLERANCE <= found[0] and found[1] <= high + RANGE_TOLERANCE, (
        f"{field}: expected values in {low:g}..{high:g}, found {found[0]:g}..{found[1]:g}"
    )


def _check_unit(field: str, vectors: FloatArray) -> None:
    if not vectors.size:
        return
    lengths = np.linalg.norm(vectors, axis=-1)
    worst = int(np.abs(lengths - 1).argmax())
    found = float(lengths.reshape(-1)[worst])
    assert abs(found - 1) <= RANGE_TOLERANCE, f"{field}: expected unit vectors, number {worst} has length {found:g}"
