# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over the 32 lanes of a GPU's warp, for kernels in which neighboring threads add to the same place.

Pixels of one large triangle all add to its three corners, one after the other. Where a whole warp sees one triangle,
its lanes add up first and one of them writes. On the CPU no two threads run at a time: `lanes_share` says no.
"""

import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS

wp.set_module_options(MODULE_OPTIONS)

_SHARE = """
#if defined(__CUDA_ARCH__)
    const unsigned lanes = __activemask();
    int same;
    __match_all_sync(lanes, key, &same);
    return lanes == 0xffffffffu && same != 0;
#else
    return false;
#endif
"""

_SUM = """
#if defined(__CUDA_ARCH__)
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, distance);
#endif
    return value;
"""

_FIRST = """
#if defined(__CUDA_ARCH__)
    return threadIdx.x % 32 == 0;
#else
    return true;
#endif
"""


@wp.func_native(_SHARE)
def lanes_share(key: wp.int32) -> wp.bool:
    """Whether all lanes are here and have the same key; the same answer in each."""
    ...


@wp.func_native(_SUM)
def sum_of_lanes(value: wp.float32) -> wp.float32:
    """The sum of the lanes' values, in each lane. Only where `lanes_share`."""
    ...


@wp.func_native(_FIRST)
def is_first_lane() -> wp.bool:
    """Whether this lane is the one that writes for all."""
    ...


@wp.func
def add_to(target: wp.array2d(dtype=wp.float32), row: wp.int32, column: wp.int32, value: wp.float32, shared: wp.bool):
    """Adds to target[row, column]; where `shared`, all lanes call this for the same place."""
    if shared:
        total = sum_of_lanes(value)
        if is_first_lane():
            wp.atomic_add(target, row, column, total)
    else:
        wp.atomic_add(target, row, column, value)
