# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighborhoods on a mesh."""

from __future__ import annotations

from torch import Tensor


def grown(marked: Tensor, triangles: Tensor, rings: int) -> Tensor:
    """`marked` [V] bool and the vertices within so many edges of them."""
    corners = triangles.long()
    result = marked.clone()
    for _ in range(rings):
        near = result[corners].any(1)  # [T]
        result[corners[near].reshape(-1)] = True
    return result
