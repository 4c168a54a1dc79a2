# SPDX-License-Identifier: GPL-3.0-or-later
"""Which triangle lies across each edge, by a hash table of edges that is filled and read without waiting.

A slot holds an edge's key, how many triangles have the edge, and the sum of their numbers: of two, each finds the other
by subtracting itself, whichever came first.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch, launch_range

wp.set_module_options(MODULE_OPTIONS)

#: Where a slot's count of triangles begins, above the sum of their numbers.
COUNT_BIT = wp.constant(wp.int64(40))
#: Slots next to each other for the edges of one vertex: a closed mesh has three edges that have it as the lower end.
SLOTS_A_VERTEX = wp.constant(wp.uint32(8))
MIX_HIGH = wp.constant(wp.uint32(2654435769))
MIX_LOW = wp.constant(wp.uint32(2246822519))


def triangle_neighbors(triangles: Tensor, vertex_count: int) -> Tensor:
    """`antialias.build_neighbors` without waiting for the device.

    Args:
        triangles: [T, 3] int32. Those that use a vertex twice, as unused places (0, 0, 0) do, have no neighbors.
        vertex_count: above all numbers in `triangles`.

    Returns:
        [T, 3] int32: neighbors[t, e] is the triangle across edge (corner e, corner (e+1) % 3) of t, -1 at a border
        and where more than two triangles share the edge.
    """
    count, device = len(triangles), triangles.device
    neighbors = torch.empty((count, 3), dtype=torch.int32, device=device)
    if not count:
        return neighbors
    triangles = triangles.contiguous()
    capacity = 1 << (4 * count - 1).bit_length()
    table = torch.zeros((capacity, 2), dtype=torch.int64, device=device)  # key, count and sum
    slots = torch.empty_like(neighbors)
    corners, places, entries = as_warp(triangles, wp.vec3i), as_warp(slots, wp.vec3i), as_warp(table, wp.int64)
    launch(_insert, count, [corners, vertex_count], [entries, places], device)
    launch_range(_resolve, count, [entries, places], [as_warp(neighbors, wp.vec3i)], device)
    return neighbors


@wp.kernel
@no_type_check
def _insert(
    triangles: wp.array(dtype=wp.vec3i),
    vertex_count: wp.int32,
    table: wp.array2d(dtype=wp.int64),
    slots: wp.array(dtype=wp.vec3i),
):
    """One thread a triangle. `slots` says where its edges stand, -1 if it has no area."""
    t = wp.tid()
    corners = triangles[t]
    places = wp.vec3i(-1, -1, -1)
    if corners[0] != corners[1] and corners[1] != corners[2] and corners[2] != corners[0]:
        mask = wp.uint32(table.shape[0] - 1)
        for e in range(3):
            low = wp.min(corners[e], corners[(e + 1) % 3])
            high = wp.max(corners[e], corners[(e + 1) % 3])
            key = wp.int64(low) * wp.int64(vertex_count) + wp.int64(high)  # above zero, since high is
            # First near the slots of neighboring vertices, which keeps to the cache; then in leaps that differ from
            # key to key and, being odd, reach all slots.
            mixed = wp.uint32(high) * MIX_HIGH
            slot = (wp.uint32(low) * SLOTS_A_VERTEX + (mixed >> wp.uint32(29))) & mask
            leap = ((mixed ^ (wp.uint32(low) * MIX_LOW)) >> wp.uint32(4)) | wp.uint32(1)
            while True:
                found = wp.atomic_cas(table, int(slot), 0, wp.int64(0), key)
                if found == wp.int64(0) or found == key:
                    break
                slot = (slot + leap) & mask
            wp.atomic_add(table, int(slot), 1, (wp.int64(1) << COUNT_BIT) + wp.int64(t))
            places[e] = int(slot)
    slots[t] = places


@wp.kernel
@no_type_check
def _resolve(
    begin: wp.int32,
    table: wp.array2d(dtype=wp.int64),
    slots: wp.array(dtype=wp.vec3i),
    neighbors: wp.array(dtype=wp.vec3i),
):
    t = begin + wp.tid()
    places = slots[t]
    across = wp.vec3i(-1, -1, -1)
    if places[0] >= 0:
        for e in range(3):
            entry = table[places[e], 1]
            if entry >> COUNT_BIT == wp.int64(2):
                across[e] = wp.int32(entry & ((wp.int64(1) << COUNT_BIT) - wp.int64(1))) - t
    neighbors[t] = across
