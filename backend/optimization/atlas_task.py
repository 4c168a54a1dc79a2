# SPDX-License-Identifier: GPL-3.0-or-later
"""The UV atlas, made by a thread of its own while the surface stage refines the mesh.

The triangles stay the same from the remesh on, and the vertices move by less than charts can tell, so that the atlas
need not wait for them: it is the host's work while the steps are the device's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from types import TracebackType
from typing import Self

from torch import Tensor

from ..geometry.atlas import Atlas, make_atlas, triangle_stretch

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
        self._atlas: Future[Atlas] = self._pool.submit(
            make_atlas, start, self._triangles, texture_size, PADDING, progress=self._hear
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._called_off = True
        self._pool.shutdown()

    def result(self, vertices: Tensor, tell: Callable[[float], None]) -> Atlas:
        """The atlas once it is done, its stretch measured on `vertices` [V, 3] as they are now. `tell` hears the share
        that is done, at least once, and may raise."""
        tell(self._share)
        while not wait((self._atlas,), TELL_SECONDS).done:
            tell(self._share)
        atlas = self._atlas.result()
        return replace(atlas, stretch=triangle_stretch(vertices.cpu().numpy(), self._triangles, atlas.uvs))

    def _hear(self, share: float) -> None:
        if self._called_off:
            raise _CalledOff
        self._share = share


class _CalledOff(Exception):
    """Ends the thread."""
