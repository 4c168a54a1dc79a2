# SPDX-License-Identifier: GPL-3.0-or-later
"""Tangent frames as Blender and glTF readers compute them (Mikkelsen 2008, "Simulation of Wrinkled Surfaces
Revisited").

A normal map is only right under the frames it was baked with, so these must equal the reader's, not merely resemble
them.
"""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def tangent_frames(vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Tangents [T, 3, 4] float32 per corner: unit vector in the plane of the vertex normal, and the sign s of the
    bitangent s · (normal × tangent), −1 where the chart is mirrored.

    vertices [V, 3], triangles [T, 3], normals [V, 3] unit (or [T, 3, 3] per corner), uvs [T, 3, 2]. Corners are welded
    where position, normal and UV are equal; corners of one welded vertex share a tangent if they are connected across
    edges of triangles of the same orientation in UV space; each triangle counts by its angle at the corner.
    """
    triangles = np.asarray(triangles, dtype=np.int64)
    count = len(triangles)
    if not count:
        return np.zeros((0, 3, 4), dtype=np.float32)
    # Single precision on purpose: readers weld on these bits.
    corner_position = np.asarray(vertices, dtype=np.float32)[triangles]
    normals = np.asarray(normals, dtype=np.float32)
    corner_normal = normals if normals.ndim == 3 else normals[triangles]
    corner_uv = np.asarray(uvs, dtype=np.float32)
    welded = _weld(corner_position, corner_normal, corner_uv)

    position, normal, uv = (x.astype(np.float64) for x in (corner_position, corner_normal, corner_uv))
    one, two = position[:, 1] - position[:, 0], position[:, 2] - position[:, 0]
    uv_one, uv_two = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    uv_area = uv_one[:, 0] * uv_two[:, 1] - uv_one[:, 1] * uv_two[:, 0]
    keeps = uv_area > 0
    # dP/du up to a positive factor: the sign of the UV area stays in it, as the direction of increasing u.
    along_u = (uv_two[:, 1:] * one - uv_one[:, 1:] * two) * np.where(keeps, 1.0, -1.0)[:, None]
    flat = (np.abs(uv_area) < 1e-37) | (np.linalg.norm(along_u, axis=1) < 1e-37)

    to_next = _normalize(_project(np.roll(position, -1, axis=1) - position, normal))
    to_previous = _normalize(_project(np.roll(position, 1, axis=1) - position, normal))
    angle = np.arccos(np.clip((to_next * to_previous).sum(-1), -1.0, 1.0))
    tangent = _normalize(_project(np.broadcast_to(along_u[:, None, :], position.shape), normal))
    weighted = np.where(flat[:, None, None], 0.0, tangent * angle[..., None]).reshape(-1, 3)

    groups = _groups(welded, keeps, flat)
    size = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, weighted[:, k], size) for k in range(3)], axis=1)
    result = sums[groups].reshape(count, 3, 3)
    sign = np.broadcast_to(np.where(keeps, 1.0, -1.0)[:, None], (count, 3)).copy()
    result = _fill_flat(result, sign, welded, normal)
    return np.concatenate([_normalize(result), sign[..., None]], axis=-1).astype(np.float32)


def _project(vectors: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return vectors - normal * (vectors * normal).sum(-1, keepdims=True)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1.0), 0.0)


def _weld(position: np.ndarray, normal: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Number [T, 3] of each corner's vertex after joining corners of equal position, normal and UV."""
    rows = np.concatenate([position, normal, uv], axis=-1).reshape(-1, 8) + np.float32(0.0)  # −0 becomes 0
    raw = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).reshape(-1)
    return np.unique(raw, return_inverse=True)[1].reshape(-1, 3)


def _groups(welded: np.ndarray, keeps: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Group number [3T]: corners of one vertex in triangles of one orientation that are connected across edges."""
    count = len(welded)
    start, end = welded.reshape(-1), np.roll(welded, -1, axis=1).reshape(-1)
    side = np.repeat(np.where(flat, 2, keeps.astype(np.int64)), 3)
    base = int(welded.max()) + 1
    key = np.minimum(start, end) * base + np.maximum(start, end)
    order = np.lexsort((side, key))
    same = np.flatnonzero((np.diff(key[order]) == 0) & (np.diff(side[order]) == 0))
    one, two = order[same], order[same + 1]
    one_end, two_end = (x // 3 * 3 + (x + 1) % 3 for x in (one, two))
    forward = start[one] == start[two]  # false for consistently oriented triangles
    rows = np.concatenate([one, one_end])
    columns = np.concatenate([np.where(forward, two, two_end), np.where(forward, two_end, two)])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(3 * count, 3 * count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _fill_flat(tangents: np.ndarray, sign: np.ndarray, welded: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Corners without a tangent (no UV area) borrow that of another corner of their vertex, or take a perpendicular."""
    missing = np.linalg.norm(tangents, axis=-1) < 1e-30
    if not missing.any():
        return tangents
    lender = np.full(int(welded.max()) + 1, -1, dtype=np.int64)
    lender[welded[~missing]] = np.flatnonzero(~missing.reshape(-1))
    wanted = lender[welded[missing]]
    axis = np.eye(3)[np.abs(normal[missing]).argmin(-1)]
    tangents = tangents.copy()
    borrowed = tangents.reshape(-1, 3)[np.maximum(wanted, 0)]
    tangents[missing] = np.where((wanted >= 0)[:, None], borrowed, _project(axis, normal[missing]))
    sign[missing] = np.where(wanted >= 0, sign.reshape(-1)[np.maximum(wanted, 0)], 1.0)
    return tangents
