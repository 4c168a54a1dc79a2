# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over neighboring lanes of a GPU's warp, for kernels in which neighboring threads add to the same place.

The pixels of a large triangle all add to its three corners, and atomic additions to one place wait for each other.
Lanes of one key that stand side by side, a run, add up first, and the first of them writes. On the CPU, where threads
run one after the other, every thread is a run of its own.

A kernel that uses this must not return after `active_lanes`: all lanes that it counted take part in every sum.
"""

import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS

wp.set_module_options(MODULE_OPTIONS)

_ACTIVE = """
#if defined(__CUDA_ARCH__)
    return (int)__activemask();
#else
    return 1;
#endif
"""

# Bits 0-4: whether the lane 1, 2, 4, 8, 16 further on is in the same run. Bit 5: this lane is the first of its run.
# Bit 6, the same in all lanes: some run is longer than one lane.
_RUN = """
#if defined(__CUDA_ARCH__)
    const unsigned mask = (unsigned)lanes;
    const int lane = threadIdx.x & 31;
    const int before = __shfl_up_sync(mask, key, 1);
    const bool first = lane == 0 || !((mask >> (lane - 1)) & 1u) || before != key;
    const unsigned starts = __ballot_sync(mask, first) | ~mask;
    const unsigned later = lane == 31 ? 0u : starts >> (lane + 1);
    const int left = later ? __ffs(later) - 1 : 31 - lane;
    int run = first ? 32 : 0;
    for (int step = 0; step < 5; ++step)
        if ((1 << step) <= left)
            run |= 1 << step;
    return run | (__any_sync(mask, left > 0) ? 64 : 0);
#else
    return 32;
#endif
"""

_SUM = """
#if defined(__CUDA_ARCH__)
    if (run & 64) {
        for (int step = 0; step < 5; ++step) {
            const float other = __shfl_down_sync((unsigned)lanes, value, 1 << step);
            if ((run >> step) & 1)
                value += other;
        }
    }
#endif
    return value;
"""


@wp.func_native(_ACTIVE)
def active_lanes() -> wp.int32:
    """The lanes of this warp that have a thread, one bit each. To be asked before anything else."""
    ...


@wp.func_native(_RUN)
def find_run(lanes: wp.int32, key: wp.int32) -> wp.int32:
    """What `add_run` needs to know of the lanes beside this one that have the same key."""
    ...


@wp.func_native(_SUM)
def sum_of_run(lanes: wp.int32, run: wp.int32, value: wp.float32) -> wp.float32:
    """The sum of the values of this lane and of those after it in its run."""
    ...


@wp.func
def add_run(
    target: wp.array2d(dtype=wp.float32),
    row: wp.int32,
    column: wp.int32,
    value: wp.float32,
    lanes: wp.int32,
    run: wp.int32,
):
    """Adds to target[row, column], which all lanes of a run name alike; every active lane calls this."""
    total = sum_of_run(lanes, run, value)
    if (run & 32) != 0 and total != 0.0:
        wp.atomic_add(target, row, column, total)
