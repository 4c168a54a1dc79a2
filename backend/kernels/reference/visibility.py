# SPDX-License-Identifier: GPL-3.0-or-later
"""Every ray against every triangle in numpy, float64 (Möller and Trumbore 1997)."""

import numpy as np


def closest_hit(
    vertices: np.ndarray,
    triangles: np.ndarray,
    origins: np.ndarray,
    directions: np.ndarray,
    t_min: float = 0.0,
    t_max: float = np.inf,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangle ids [R] (−1 none), t [R] (infinite for none), and how clear the case is [R].

    The last is the smallest distance, in barycentric coordinates, of a ray to the border of any triangle that lies in
    its way: where it is small, rounding decides.
    """
    corners = vertices.astype(np.float64)[triangles]  # [T, 3, 3]
    origin, direction = origins.astype(np.float64)[:, None], directions.astype(np.float64)[:, None]  # [R, 1, 3]
    edge_u, edge_v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]  # [T, 3]
    across = np.cross(direction, edge_v)  # [R, T, 3]
    determinant = (across * edge_u).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = origin - corners[:, 0]
        u = (away * across).sum(-1) / determinant
        beyond = np.cross(away, edge_u)
        v = (direction * beyond).sum(-1) / determinant
        t = (edge_v * beyond).sum(-1) / determinant
    margin = np.minimum(np.minimum(u, v), 1 - u - v)
    between = (t >= t_min) & (t <= t_max)
    distance = np.where(between & (margin >= 0), t, np.inf)
    nearest = distance.argmin(1)
    best = distance.min(1)
    clear = np.where(between, np.abs(margin), np.inf).min(1)
    return np.where(np.isfinite(best), nearest, -1), best, clear
