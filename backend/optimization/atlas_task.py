# SPDX-License-Identifier: GPL-3.0-or-later
"""The UV atlas and its texels, made by a thread of its own while the surface stage refines the mesh.

The triangles stay the same from the remesh on, and the vertices move by less than charts can tell, so that the atlas
need not wait for them: it is the host's work while the steps are the device's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from torch import Tensor

from ..geometry.atlas import Atlas, TexelMap, make_atlas, rasterize_atlas, triangle_stretch

PADDING = 4.0  # texels between charts
TELL_SECONDS = 0.2  # between two words on how far it is


class AtlasTask:
    """An atlas in the making; leaving the context before it is done calls it off.

    Args:
        vertices: [V, 3] float32, as they are now.
        triangles: [T, 3] int64.
        texture_size: texels along a side.
    """

    def __init__(self, vertices: Tensor, triangles: Tensor, texture_size: int) -> None:
        self._share = 0.0
        self._called_off = False
        self._triangles = triangles.cpu().numpy()
        start = vertices.detach().cpu().numpy().copy()
        self._pool = ThreadPoolExecutor(1, "atlas")
        self._made: Future[tuple[Atlas, TexelMap]] = self._pool.submit(self._make, start, texture_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._called_off = True
        self._pool.shutdown()

    def result(self, vertices: Tensor, tell: Callable[[float], None]) -> tuple[Atlas, TexelMap]:
        """The atlas once it is done, its stretch measured on `vertices` [V, 3] as they are now, and which texels its
        triangles cover. `tell` hears the share that is done, at least once, and may raise."""
        tell(self._share)
        while not wait((self._made,), TELL_SECONDS).done:
            tell(self._share)
        atlas, texels = self._made.result()
        return replace(atlas, stretch=triangle_stretch(vertices.cpu().numpy(), self._triangles, atlas.uvs)), texels

    def _make(self, vertices: np.ndarray, size: int) -> tuple[Atlas, TexelMap]:
        atlas = make_atlas(vertices, self._triangles, size, PADDING, progress=self._hear)
        texels = rasterize_atlas(atlas.uvs, size)
        self._hear(1.0)
        _ = texels.nearest  # found here, it is ready when it is needed
        return atlas, texels

    def _hear(self, share: float) -> None:
        if self._called_off:
            raise _CalledOff
        self._share = share


class _CalledOff(Exception):
    """Ends the thread."""
