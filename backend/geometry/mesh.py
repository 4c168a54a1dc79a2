# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangle mesh operations: normals, connectivity, clean-up, regularisation matrices.

Meshes are pairs (vertices [V, 3] float, triangles [T, 3] integer), counter-clockwise seen from outside, on any torch
device. Corner e of a triangle starts its edge e, which runs to corner (e + 1) % 3.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as _graph_components
from torch import Tensor


def face_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unnormalized face normals [T, 3]; their length is twice the area. Differentiable."""
    # Not by indexing, whose gradient is sorted before it is added.
    corners = vertices.index_select(0, triangles.reshape(-1).long()).view(-1, 3, 3)  # [T, 3, 3] float32, world
    return torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def face_areas(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Areas [T] in squared world units. Differentiable away from zero area."""
    return 0.5 * torch.linalg.vector_norm(face_normals(vertices, triangles), dim=-1)


def corner_angles(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Interior angles [T, 3] in radians (0 at corners of degenerate triangles). Differentiable."""
    corners = vertices[triangles.long()]  # [T, 3, 3]
    to_next = corners.roll(-1, 1) - corners  # [T, 3, 3]
    to_previous = corners.roll(1, 1) - corners
    # atan2 keeps accuracy (and gradients) for needle triangles where acos does not.
    sine = torch.linalg.vector_norm(torch.linalg.cross(to_next, to_previous), dim=-1)
    return torch.atan2(sine, (to_next * to_previous).sum(-1))


def vertex_normals(vertices: Tensor, triangles: Tensor, weighting: str = "area") -> Tensor:
    """Unit vertex normals [V, 3]: face normals averaged by area or by corner angle. Differentiable.

    Vertices without any (non-degenerate) triangle get (0, 0, 1), so that later code never meets a zero vector.
    """
    assert weighting in ("area", "angle")
    faces = face_normals(vertices, triangles)  # [T, 3]
    index = triangles.long()
    if weighting == "area":
        contributions = faces[:, None, :].expand(-1, 3, -1)  # [T, 3, 3]
    else:
        unit = torch.nn.functional.normalize(faces, dim=-1, eps=1e-30)
        contributions = unit[:, None, :] * corner_angles(vertices, triangles)[..., None]
    sums = torch.zeros_like(vertices).index_add(0, index.reshape(-1), contributions.reshape(-1, 3))
    # The eps of `normalize` is absolute; areas of a small mesh are far below it, hence the explicit test.
    length = torch.linalg.vector_norm(sums.detach(), dim=-1, keepdim=True)
    up = torch.zeros_like(sums)
    up[:, 2] = 1.0
    valid = length > 0
    scaled = torch.where(valid, sums / torch.where(valid, length, 1.0), up)
    return torch.nn.functional.normalize(scaled, dim=-1)


@dataclass(frozen=True)
class Edges:
    """Undirected edges. `vertices` [E, 2] int64 with column 0 < column 1, sorted; `of_corner` [T, 3] int64 is the edge
    from each corner to the next; `counts` [E] int64 is the number of triangles at it."""

    vertices: Tensor
    of_corner: Tensor
    counts: Tensor


def unique_edges(triangles: Tensor) -> Edges:
    """Undirected edges of the triangles [T, 3]."""
    index = triangles.long()
    start, end = index.reshape(-1), index.roll(-1, 1).reshape(-1)
    base = int(index.max()) + 1 if len(index) else 1
    keys = torch.minimum(start, end) * base + torch.maximum(start, end)
    order = _argsort(keys)
    ordered = keys[order]
    is_first = torch.diff(ordered, prepend=ordered[:1] - 1) != 0
    inverse = torch.empty_like(order)
    inverse[order] = torch.cumsum(is_first, 0) - 1
    unique = ordered[is_first]
    pairs = torch.stack([unique // base, unique % base], dim=1)
    return Edges(pairs, inverse.reshape(-1, 3), torch.bincount(inverse))


def _argsort(keys: Tensor) -> Tensor:
    """Stable order [N] int64 of keys [N]; on a CPU by numpy, whose sort is several times as fast as torch's."""
    on_cpu = keys.device.type == "cpu"
    return torch.from_numpy(np.argsort(keys.numpy(), kind="stable")) if on_cpu else torch.argsort(keys, stable=True)


def triangle_neighbors(triangles: Tensor, edges: Edges | None = None) -> Tensor:
    """Neighbors [T, 3] int32 across edge e of each triangle; −1 at borders and at edges of more than two triangles."""
    edges = edges or unique_edges(triangles)
    of_corner = edges.of_corner.reshape(-1)
    order = _argsort(of_corner)
    first = torch.cumsum(edges.counts, 0) - edges.counts
    pair = first[edges.counts == 2]
    one, two = order[pair], order[pair + 1]
    neighbors = torch.full_like(of_corner, -1)
    neighbors[one] = two // 3
    neighbors[two] = one // 3
    return neighbors.reshape(-1, 3).to(torch.int32)


def edge_triangles(edges: Edges) -> tuple[Tensor, Tensor]:
    """For each edge its first two triangles [E, 2] int64 (−1 where absent) and their corners [E, 2] that start it."""
    order = _argsort(edges.of_corner.reshape(-1))
    first = torch.cumsum(edges.counts, 0) - edges.counts
    one = order[first] if len(first) else first
    has_two = edges.counts > 1
    two = torch.where(has_two, order[torch.where(has_two, first + 1, first)], -1) if len(first) else first
    sides = torch.stack([one // 3, torch.where(has_two, two // 3, -1)], dim=1)
    corners = torch.stack([one % 3, torch.where(has_two, two % 3, -1)], dim=1)
    return sides, corners


@dataclass(frozen=True)
class MeshChecks:
    """Counts of what is wrong with a mesh; a closed, oriented 2-manifold has zeros everywhere but `components`."""

    boundary_edges: int
    nonmanifold_edges: int  # more than two triangles
    nonmanifold_vertices: int  # several fans of triangles meet in the vertex only
    flipped_edges: int  # two triangles run along the edge in the same direction
    degenerate_triangles: int
    duplicate_triangles: int
    unused_vertices: int
    components: int

    @property
    def manifold(self) -> bool:
        return not (self.nonmanifold_edges or self.nonmanifold_vertices or self.flipped_edges)

    @property
    def closed(self) -> bool:
        return self.manifold and self.boundary_edges == 0


def check(vertices: Tensor, triangles: Tensor) -> MeshChecks:
    """Counts the defects of a mesh."""
    edges = unique_edges(triangles)
    index = triangles.long()
    forward = (index < index.roll(-1, 1)).long()
    along = torch.zeros_like(edges.counts).index_add_(0, edges.of_corner.reshape(-1), forward.reshape(-1))
    fans = _corner_fans(triangles, edges)
    used = torch.unique(index)
    return MeshChecks(
        boundary_edges=int((edges.counts == 1).sum()),
        nonmanifold_edges=int((edges.counts > 2).sum()),
        nonmanifold_vertices=int(fans.max()) + 1 - len(used) if len(index) else 0,
        flipped_edges=int(((edges.counts == 2) & (along != 1)).sum()),
        degenerate_triangles=int((~_sound(vertices, triangles)).sum()),
        duplicate_triangles=len(index) - len(torch.unique(index.sort(dim=1).values, dim=0)),
        unused_vertices=len(vertices) - len(used),
        components=int(connected_components(triangles, len(vertices)).max()) + 1 if len(index) else 0,
    )


def connected_components(triangles: Tensor, vertex_count: int) -> Tensor:
    """Component number [T] int64 of each triangle, numbered from 0 without gaps; parts touching in a vertex are one."""
    index = triangles.long().cpu().numpy()
    if not len(index):
        return torch.zeros(0, dtype=torch.int64, device=triangles.device)
    rows = np.concatenate([index[:, 0], index[:, 1]])
    columns = np.concatenate([index[:, 1], index[:, 2]])
    labels = _components(rows, columns, vertex_count)[index[:, 0]]
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64)).to(triangles.device)


def _components(rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    return np.asarray(_graph_components(graph, directed=False)[1], dtype=np.int64)


def _sound(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mask [T]: three different corners, and a height above 1e-6 of the longest edge (what float32 can still tell)."""
    index = triangles.long()
    corners = vertices[index].double()
    distinct = (index != index.roll(-1, 1)).all(1)
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    longest = (corners.roll(-1, 1) - corners).square().sum(-1).amax(1)
    return distinct & (torch.linalg.vector_norm(normal, dim=-1) > 1e-6 * longest) & (longest > 0)


def compact(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Removes unused vertices. Returns vertices, triangles and the old index [V'] int64 of each kept vertex."""
    kept, inverse = torch.unique(triangles.long(), return_inverse=True)
    return vertices[kept], inverse.reshape(-1, 3).to(triangles.dtype), kept


def weld(vertices: Tensor, triangles: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
    """Joins vertices at equal positions (tolerance 0) or in the same cell of a grid of that size, in world units.

    Triangles that collapse are removed.
    """
    keys = vertices if tolerance <= 0 else torch.round(vertices.double() / tolerance).long()
    unique, inverse = torch.unique(keys, dim=0, return_inverse=True)
    representative = torch.full((len(unique),), len(vertices), dtype=torch.int64, device=vertices.device)
    order = torch.arange(len(vertices), device=vertices.device)
    representative.scatter_reduce_(0, inverse, order, "amin")
    joined = inverse[triangles.long()]
    distinct = (joined != joined.roll(-1, 1)).all(1)
    result = compact(vertices[representative], joined[distinct].to(triangles.dtype))
    return result[0], result[1]


def remove_degenerate(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Removes triangles without area, all but one of duplicates, pairs of opposite duplicates, and unused vertices."""
    triangles = triangles[_sound(vertices, triangles)]
    index = triangles.long()
    ordered = index.sort(dim=1).values
    unique, inverse = torch.unique(ordered, dim=0, return_inverse=True)
    # The parity of a permutation of three corners is the orientation of the duplicate.
    ascents = (index < index.roll(-1, 1)).sum(1)
    orientation = torch.where(ascents == 2, 1, -1)
    balance = torch.zeros(len(unique), dtype=torch.int64, device=index.device).index_add_(0, inverse, orientation)
    first = torch.full((len(unique),), len(index), dtype=torch.int64, device=index.device)
    order = torch.arange(len(index), device=index.device)
    agrees = orientation * balance[inverse].sign() > 0
    first.scatter_reduce_(0, inverse, torch.where(agrees, order, len(index)), "amin")
    keep = first[inverse] == order
    result = compact(vertices, triangles[keep])
    return result[0], result[1]


def drop_small_components(vertices: Tensor, triangles: Tensor, fraction: float = 0.01) -> tuple[Tensor, Tensor]:
    """Removes connected components whose area is below `fraction` of the largest component's area."""
    if not len(triangles):
        return vertices[:0], triangles
    labels = connected_components(triangles, len(vertices))
    areas = face_areas(vertices, triangles)
    sums = torch.zeros(int(labels.max()) + 1, dtype=areas.dtype, device=areas.device).index_add_(0, labels, areas)
    result = compact(vertices, triangles[(sums >= fraction * sums.max())[labels]])
    return result[0], result[1]


def _corner_fans(triangles: Tensor, edges: Edges) -> Tensor:
    """Fan number [T, 3] int64 of each corner: corners of one vertex are in one fan if consistently oriented triangles
    connect them across edges. At edges of more than two triangles nothing connects, see `_wedge_pairs`."""
    sides, corners = edge_triangles(edges)
    index = triangles.long()
    two = edges.counts == 2
    one_side, other_side = sides[two].unbind(1)
    one_corner, other_corner = corners[two].unbind(1)
    opposed = index[one_side, one_corner] != index[other_side, other_corner]
    pairs = torch.stack([one_side * 3 + one_corner, other_side * 3 + other_corner], 1)[opposed]
    return _join_fans(len(index), pairs).to(triangles.device)


def _join_fans(triangle_count: int, edge_pairs: Tensor) -> Tensor:
    """Fan numbers from pairs [P, 2] of half-edges (3 · triangle + corner) that run against each other."""
    starts = edge_pairs
    ends = starts // 3 * 3 + (starts + 1) % 3  # corner (e + 1) % 3, since starts % 3 == e
    rows = torch.cat([starts[:, 0], ends[:, 0]]).cpu().numpy()
    columns = torch.cat([ends[:, 1], starts[:, 1]]).cpu().numpy()
    return torch.from_numpy(_components(rows, columns, triangle_count * 3)).reshape(-1, 3)


def split_nonmanifold(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Makes the mesh an oriented 2-manifold by duplicating vertices; the surface stays where it is.

    Where 2n triangles meet at an edge they are paired so that each pair bounds one solid wedge: bodies that touch in an
    edge come apart and stay closed. Returns vertices, triangles and the old index [V'] of each vertex (of one
    end, for the few new vertices in the middle of edges).
    """
    vertices, faces, source = _separate(vertices, triangles)
    for _ in range(16):
        edges = unique_edges(faces)
        if not bool((edges.counts > 2).any()):
            break
        vertices, faces, source = _halve_double_edges(vertices, faces, edges, source)
        vertices, faces, parent = _separate(vertices, faces)
        source = source[parent]
    return vertices, faces, source


def _separate(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gives every fan of triangles about a vertex a vertex of its own."""
    edges = unique_edges(triangles)
    index = triangles.long()
    sides, corners = edge_triangles(edges)
    two = edges.counts == 2
    half = sides * 3 + corners
    opposed = index.reshape(-1)[half[two, 0]] != index.reshape(-1)[half[two, 1]]
    pairs = torch.cat([half[two][opposed], _wedge_pairs(vertices, triangles, edges)])
    fans = _join_fans(len(index), pairs).to(triangles.device)
    source = torch.zeros(int(fans.max()) + 1 if len(index) else 0, dtype=torch.int64, device=triangles.device)
    source[fans.reshape(-1)] = index.reshape(-1)
    return vertices[source], fans.to(triangles.dtype), source


def _halve_double_edges(
    vertices: Tensor, triangles: Tensor, edges: Edges, source: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Two wedges can meet in an edge and belong to one fan at both its ends: each gets its own middle."""
    pairs = _wedge_pairs(vertices, triangles, edges)  # [P, 2]
    # One edge of a triangle at a time; the caller comes again.
    order = torch.arange(len(pairs), device=pairs.device)
    first = torch.full((len(triangles),), len(pairs), device=pairs.device)
    first.scatter_reduce_(0, (pairs // 3).reshape(-1), order.repeat_interleave(2), "amin")
    pairs = pairs[(first[pairs // 3] == order[:, None]).all(1)]
    if not len(pairs):
        return vertices, triangles, source
    triangle, corner = pairs // 3, pairs % 3  # [P, 2]
    ahead = (corner + 1) % 3
    start = triangles[triangle[:, 0], corner[:, 0]].long()
    end = triangles[triangle[:, 0], ahead[:, 0]].long()
    middle = (len(vertices) + torch.arange(len(pairs), device=pairs.device)).to(triangles.dtype)
    second = triangles[triangle]  # [P, 2, 3]
    second.scatter_(2, corner[..., None], middle[:, None, None].expand(-1, 2, 1))
    index = triangles.clone()
    index[triangle, ahead] = middle[:, None].expand(-1, 2)
    return (
        torch.cat([vertices, (vertices[start] + vertices[end]) / 2]),
        torch.cat([index, second.reshape(-1, 3)]),
        torch.cat([source, source[start]]),
    )


def _wedge_pairs(vertices: Tensor, triangles: Tensor, edges: Edges) -> Tensor:
    """Pairs [P, 2] of half-edges that bound one solid wedge, at edges of more than two triangles."""
    crowded = edges.counts > 2
    device = triangles.device
    if not bool(crowded.any()):
        return torch.zeros((0, 2), dtype=torch.int64, device=device)
    index = triangles.long().cpu().numpy()
    points = vertices.detach().double().cpu().numpy()
    of_corner = edges.of_corner.reshape(-1).cpu().numpy()
    halves = np.flatnonzero(crowded.cpu().numpy()[of_corner])
    halves = halves[np.argsort(of_corner[halves], kind="stable")]  # [H], those of an edge together
    edge = of_corner[halves]
    begins = np.concatenate([[True], edge[1:] != edge[:-1]])
    group = np.cumsum(begins) - 1
    heads = np.flatnonzero(begins)  # [G], where each edge's half-edges begin
    triangle, corner = halves // 3, halves % 3
    ends = edges.vertices.cpu().numpy()[edge]  # [H, 2]
    low = points[ends[:, 0]]
    axis = _unit(points[ends[:, 1]] - low)
    apex = points[index[triangle, (corner + 2) % 3]] - low
    across = apex - (apex * axis).sum(1, keepdims=True) * axis
    frame = _unit(across[heads])[group]
    angle = np.arctan2((across * np.cross(axis, frame)).sum(1), (across * frame).sum(1))
    forward = index[triangle, corner] == ends[:, 0]
    # Counter-clockwise about the edge, a triangle that runs along it has its solid side behind it (clockwise).
    order = np.lexsort((angle, group))
    before = np.roll(order, 1)
    before[heads] = order[np.append(heads[1:], len(order)) - 1]
    bounds = forward[order] & ~forward[before]
    pairs = np.stack([halves[order[bounds]], halves[before[bounds]]], axis=1)
    return torch.from_numpy(pairs).to(device)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, 3] of length one; those of no length stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def fill_holes(vertices: Tensor, triangles: Tensor, max_edges: int = 32) -> tuple[Tensor, Tensor]:
    """Closes border loops of up to `max_edges` edges, with one triangle or a fan about their center."""
    edges = unique_edges(triangles)
    border = (edges.counts[edges.of_corner] == 1).cpu().numpy()
    index = triangles.long().cpu().numpy()
    follow: dict[int, int] = {}
    for triangle, corner in np.argwhere(border):
        # Against the triangle's own direction, so that the filling is oriented like its neighbors.
        follow[int(index[triangle, (corner + 1) % 3])] = int(index[triangle, corner])
    points, added = [vertices], []
    count = len(vertices)
    while follow:
        first, current = follow.popitem()
        loop = [first]
        while current != first and current in follow:
            loop.append(current)
            current = follow.pop(current)
        if current != first or not 3 <= len(loop) <= max_edges:
            continue
        if len(loop) == 3:
            added.append(loop)
            continue
        points.append(vertices[torch.tensor(loop, device=vertices.device)].mean(0, keepdim=True))
        added += [[a, b, count] for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
        count += 1
    if not added:
        return vertices, triangles
    extra = torch.tensor(added, dtype=triangles.dtype, device=triangles.device)
    return torch.cat(points), torch.cat([triangles, extra])


def clean(
    vertices: Tensor, triangles: Tensor, min_component: float = 0.01, fill: int = 0, tolerance: float = 0.0
) -> tuple[Tensor, Tensor]:
    """What to do before remeshing: weld, drop degenerate triangles, make manifold, drop small parts, fill holes.

    `min_component` is a fraction of the largest part's area, `fill` the largest hole to close in edges (0: none),
    `tolerance` the welding distance in world units.
    """
    vertices, triangles = weld(vertices, triangles, tolerance)
    vertices, triangles = remove_degenerate(vertices, triangles)
    vertices, triangles, _ = split_nonmanifold(vertices, triangles)
    vertices, triangles = drop_small_components(vertices, triangles, min_component)
    return fill_holes(vertices, triangles, fill) if fill else (vertices, triangles)
