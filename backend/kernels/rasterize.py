# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangle rasterisation: which triangle each pixel center sees.

Coverage uses homogeneous edge functions (Olano and Greer 1997), so triangles that cross the camera plane need no
clipping. With q_k = (x_k - p_x w_k, y_k - p_y w_k) for corner k and pixel p in normalized device coordinates, the edge
functions are e_0 = q_1 x q_2, e_1 = q_2 x q_0, e_2 = q_0 x q_1, and e_k / (e_0 + e_1 + e_2) are the perspective-correct
weights. Taking the corners relative to the pixel first keeps float32 exact enough for triangles far below a pixel.

No pixel center on a shared edge or vertex is lost: q depends on corner and pixel only, and without fused multiply-add
the sign of a float32 cross product is right or zero, and zero counts as inside. Hence "fuse_fp" is off here.
"""

import torch
import warp as wp

from backend.kernels import bridge
from backend.kernels.barycentrics import barycentrics, barycentrics_at
from backend.kernels.screen import cross2, pixel_to_ndc, relative

__all__ = ["barycentrics", "barycentrics_at", "rasterize"]

wp.set_module_options({**bridge.MODULE_OPTIONS, "fuse_fp": False})

#: Smallest w (distance along the view direction) that a visible point may have.
W_EPSILON = wp.constant(wp.float32(1e-8))
#: Bounding boxes are widened by this many pixels, above the rounding error of their corners.
BOUNDS_MARGIN = wp.constant(wp.float32(2e-3))
#: On CUDA, triangles whose bounding box holds more pixels than this are cut into tiles shared among thread blocks.
LARGE_PIXELS = 512
TILE = wp.constant(16)
TILE_BLOCKS = 1056  # thread blocks of the second pass: a multiple of the multiprocessors of current cards
QUEUE_CAPACITY = 1 << 20
EMPTY_KEY = 0x7FFFFFFFFFFFFFFF  # its low word, as int32, is -1: the background's id


@wp.func
def edge_functions(v0: wp.vec4, v1: wp.vec4, v2: wp.vec4, pixel: wp.vec2) -> wp.vec3:
    q0 = relative(v0, pixel)
    q1 = relative(v1, pixel)
    q2 = relative(v2, pixel)
    return wp.vec3(cross2(q1, q2), cross2(q2, q0), cross2(q0, q1))


@wp.func
def depth_key(v0: wp.vec4, v1: wp.vec4, v2: wp.vec4, e: wp.vec3, triangle: wp.int32) -> wp.int64:
    """Sortable (depth, triangle id) of a pixel with edge functions e; EMPTY_KEY if the pixel is outside.

    The high word rises with z/w in [-1, 1]: it is bits(2) - bits(1 - z/w), since 1 - z/w is exact near the far plane,
    where perspective crowds the depths.
    """
    key = wp.int64(0x7FFFFFFFFFFFFFFF)
    inside = (e[0] >= 0.0 and e[1] >= 0.0 and e[2] >= 0.0) or (e[0] <= 0.0 and e[1] <= 0.0 and e[2] <= 0.0)
    if inside:
        total = e[0] + e[1] + e[2]
        if total != 0.0:
            w = (e[0] * v0[3] + e[1] * v1[3] + e[2] * v2[3]) / total
            z = (e[0] * v0[2] + e[1] * v1[2] + e[2] * v2[2]) / total
            if w > W_EPSILON and z >= -w and z <= w:
                reverse = wp.max(1.0 - z / w, 0.0)
                high = wp.int32(0x40000000) - wp.cast(reverse, wp.int32)
                high = wp.max(high, wp.int32(0))
                key = (wp.int64(high) << wp.int64(32)) | wp.int64(triangle)
    return key


@wp.func
def grow(bounds: wp.vec4, x: wp.float32, y: wp.float32) -> wp.vec4:
    return wp.vec4(wp.min(bounds[0], x), wp.max(bounds[1], x), wp.min(bounds[2], y), wp.max(bounds[3], y))


@wp.func
def grow_by_corner(bounds: wp.vec4, v: wp.vec4) -> wp.vec4:
    result = bounds
    if v[3] > W_EPSILON:
        result = grow(bounds, v[0] / v[3], v[1] / v[3])
    return result


@wp.func
def grow_by_crossing(bounds: wp.vec4, a: wp.vec4, b: wp.vec4) -> wp.vec4:
    """Adds the point where edge ab meets the plane w = W_EPSILON, if it does."""
    result = bounds
    if (a[3] > W_EPSILON) != (b[3] > W_EPSILON):
        t = (W_EPSILON - a[3]) / (b[3] - a[3])
        result = grow(bounds, (a[0] + t * (b[0] - a[0])) / W_EPSILON, (a[1] + t * (b[1] - a[1])) / W_EPSILON)
    return result


@wp.func
def beside_frustum(v0: wp.vec4, v1: wp.vec4, v2: wp.vec4) -> wp.bool:
    """True if a side plane of the view frustum has all three corners on its outer side, whatever their w."""
    return (
        (v0[0] > v0[3] and v1[0] > v1[3] and v2[0] > v2[3])
        or (v0[0] < -v0[3] and v1[0] < -v1[3] and v2[0] < -v2[3])
        or (v0[1] > v0[3] and v1[1] > v1[3] and v2[1] > v2[3])
        or (v0[1] < -v0[3] and v1[1] < -v1[3] and v2[1] < -v2[3])
    )


@wp.func
def pixel_bounds(v0: wp.vec4, v1: wp.vec4, v2: wp.vec4, height: wp.int32, width: wp.int32) -> wp.vec4i:
    """First and last column, first and last row of pixel centers the triangle can cover (first > last: none)."""
    x0 = wp.float32(1.0e30)
    x1 = wp.float32(-1.0e30)
    y0 = wp.float32(1.0e30)
    y1 = wp.float32(-1.0e30)
    if wp.min(v0[3], wp.min(v1[3], v2[3])) > W_EPSILON:
        r0 = 1.0 / v0[3]
        r1 = 1.0 / v1[3]
        r2 = 1.0 / v2[3]
        x0 = wp.min(v0[0] * r0, wp.min(v1[0] * r1, v2[0] * r2))
        x1 = wp.max(v0[0] * r0, wp.max(v1[0] * r1, v2[0] * r2))
        y0 = wp.min(v0[1] * r0, wp.min(v1[1] * r1, v2[1] * r2))
        y1 = wp.max(v0[1] * r0, wp.max(v1[1] * r1, v2[1] * r2))
    else:
        if not beside_frustum(v0, v1, v2):
            bounds = wp.vec4(x0, x1, y0, y1)
            bounds = grow_by_corner(bounds, v0)
            bounds = grow_by_corner(bounds, v1)
            bounds = grow_by_corner(bounds, v2)
            bounds = grow_by_crossing(bounds, v0, v1)
            bounds = grow_by_crossing(bounds, v1, v2)
            bounds = grow_by_crossing(bounds, v2, v0)
            x0 = bounds[0]
            x1 = bounds[1]
            y0 = bounds[2]
            y1 = bounds[3]
    half_w = 0.5 * float(width)
    half_h = 0.5 * float(height)
    # Clamped as floats, since a conversion to int must not overflow. int() rounds towards zero and so is floor of what
    # is positive: the first pixel is floor(x + 1/2 - margin), the last floor(x + 1/2 + margin) - 1.
    j0 = wp.clamp((x0 + 1.0) * half_w + (0.5 - BOUNDS_MARGIN), 0.0, float(width))
    j1 = wp.clamp((x1 + 1.0) * half_w + (0.5 + BOUNDS_MARGIN), 0.0, float(width))
    i0 = wp.clamp((1.0 - y1) * half_h + (0.5 - BOUNDS_MARGIN), 0.0, float(height))
    i1 = wp.clamp((1.0 - y0) * half_h + (0.5 + BOUNDS_MARGIN), 0.0, float(height))
    return wp.vec4i(int(j0), int(j1) - 1, int(i0), int(i1) - 1)


@wp.func
def is_finite(v0: wp.vec4, v1: wp.vec4, v2: wp.vec4) -> wp.bool:
    total = v0 + v1 + v2
    total_sum = total[0] + total[1] + total[2] + total[3]
    return total_sum - total_sum == 0.0


@wp.func
def draw_pixels(
    v0: wp.vec4,
    v1: wp.vec4,
    v2: wp.vec4,
    triangle: wp.int32,
    image: wp.int32,
    box: wp.vec4i,
    height: wp.int32,
    width: wp.int32,
    keys: wp.array(dtype=wp.int64),
):
    """Draws the pixels of a box (columns box[0]..box[1], rows box[2]..box[3]) that the triangle covers."""
    for i in range(box[2], box[3] + 1):
        for j in range(box[0], box[1] + 1):
            e = edge_functions(v0, v1, v2, pixel_to_ndc(i, j, height, width))
            key = depth_key(v0, v1, v2, e, triangle)
            pixel = (image * height + i) * width + j
            if key < keys[pixel]:
                wp.atomic_min(keys, pixel, key)


@wp.kernel
def _draw_triangles(
    begin: wp.int32,
    part_size: wp.int32,
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    height: wp.int32,
    width: wp.int32,
    large: wp.int32,
    queue_counter: wp.array(dtype=wp.int64),
    queue_item: wp.array(dtype=wp.int64),
    queue_tile: wp.array(dtype=wp.int64),
    keys: wp.array(dtype=wp.int64),
):
    """One thread per (part of the triangles, view, triangle of the part); each part draws into images of its own.

    Boxes above `large` pixels go to the queue of the tile pass, if it has room.
    """
    tid = begin + wp.tid()
    image = tid / part_size
    part = image / clip.shape[0]
    view = image - part * clip.shape[0]
    t = tid + (part - image) * part_size
    if t >= triangles.shape[0]:
        return
    corners = triangles[t]
    v0 = clip[view, corners[0]]
    v1 = clip[view, corners[1]]
    v2 = clip[view, corners[2]]
    if not is_finite(v0, v1, v2):
        return
    box = pixel_bounds(v0, v1, v2, height, width)
    columns = box[1] - box[0] + 1
    rows = box[3] - box[2] + 1
    if columns <= 0 or rows <= 0:
        return
    if columns * rows > large:
        # One counter hands out the queue slot (bits 34 and up) and the first tile number (below) together, so that
        # the tile numbers rise along the queue and the tile pass can find its triangle by bisection.
        tiles = ((columns + TILE - 1) / TILE) * ((rows + TILE - 1) / TILE)
        ticket = wp.atomic_add(queue_counter, 0, (wp.int64(1) << wp.int64(34)) + wp.int64(tiles))
        slot = wp.int32(ticket >> wp.int64(34))
        if slot < queue_item.shape[0]:
            queue_item[slot] = wp.int64(view) * wp.int64(triangles.shape[0]) + wp.int64(t)
            queue_tile[slot] = ticket & wp.int64(0x3FFFFFFFF)
            return
    draw_pixels(v0, v1, v2, t, image, box, height, width, keys)


@wp.kernel
def _draw_tiles(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    height: wp.int32,
    width: wp.int32,
    queue_counter: wp.array(dtype=wp.int64),
    queue_item: wp.array(dtype=wp.int64),
    queue_tile: wp.array(dtype=wp.int64),
    keys: wp.array(dtype=wp.int64),
):
    """Blocks of TILE x TILE threads walk over all tiles of all queued triangles; the host never learns their number."""
    tid = wp.tid()
    threads = TILE * TILE
    lane = tid % threads
    tile = wp.int64(tid / threads)
    count = queue_counter[0]
    tiles = count & wp.int64(0x3FFFFFFFF)
    slots = wp.min(wp.int32(count >> wp.int64(34)), queue_item.shape[0])
    while tile < tiles:
        low = wp.int32(0)
        high = int(slots)
        while high - low > 1:
            middle = (low + high) / 2
            if queue_tile[middle] <= tile:
                low = middle
            else:
                high = middle
        item = queue_item[low]
        view = wp.int32(item / wp.int64(triangles.shape[0]))
        t = wp.int32(item % wp.int64(triangles.shape[0]))
        corners = triangles[t]
        v0 = clip[view, corners[0]]
        v1 = clip[view, corners[1]]
        v2 = clip[view, corners[2]]
        box = pixel_bounds(v0, v1, v2, height, width)
        across = (box[1] - box[0] + TILE) / TILE
        local = wp.int32(tile - queue_tile[low])
        i = box[2] + (local / across) * TILE + lane / TILE
        j = box[0] + (local % across) * TILE + lane % TILE
        if i <= box[3] and j <= box[1]:
            draw_pixels(v0, v1, v2, t, view, wp.vec4i(j, j, i, i), height, width, keys)
        tile += wp.int64(TILE_BLOCKS)


def rasterize(clip: torch.Tensor, triangles: torch.Tensor, resolution: tuple[int, int]) -> torch.Tensor:
    """Nearest triangle at each pixel center; no gradient.

    Args:
        clip: [B, V, 4] float32 clip positions (OpenGL: x right, y up, z in [-w, w], w > 0 in front).
        triangles: [T, 3] int32 vertex indices. Both sides are drawn.
        resolution: (height, width) in pixels.

    Returns:
        [B, H, W] int32 triangle ids, -1 where nothing is seen; row 0 is the top. Points with w <= 0 or z outside
        [-w, w] are not drawn; triangles with a corner that is not finite are left out. Of several triangles at the
        same depth the smallest id wins, so the result does not depend on the order of threads.
    """
    height, width = resolution
    views, count, device = clip.shape[0], triangles.shape[0], clip.device
    tiled = _uses_tiles(device)
    parts = 1 if tiled or views * count < bridge.SPLIT_FROM else -(-torch.get_num_threads() // views)
    keys = torch.full((parts, views, height, width), EMPTY_KEY, dtype=torch.int64, device=device)
    if views * count * height * width > 0:
        slots = min(views * count, QUEUE_CAPACITY) if tiled else 0
        counter = torch.zeros(1, dtype=torch.int64, device=device)
        queue = torch.empty((2, slots), dtype=torch.int64, device=device)
        shape = [bridge.as_warp(clip, wp.vec4), bridge.as_warp(triangles, wp.vec3i), height, width]
        work = [bridge.as_warp(t, wp.int64) for t in (counter, queue[0], queue[1], keys.view(-1))]
        large = LARGE_PIXELS if tiled else height * width
        size = -(-count // parts)
        images = parts * views
        bridge.launch_range(_draw_triangles, images * size, [size, *shape, large, *work], device=device, pieces=images)
        if tiled:
            bridge.launch(_draw_tiles, TILE_BLOCKS * 256, [*shape, *work], device=device, block_dim=256)
    nearest = keys[0] if parts == 1 else keys.amin(0)
    return nearest.view(torch.int32)[..., 0::2].contiguous()  # the low word (little-endian) is the id


def _uses_tiles(device: torch.device) -> bool:
    """On the CPU one loop over the bounding box is best for any size."""
    return device.type == "cuda"
