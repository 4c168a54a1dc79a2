# SPDX-License-Identifier: GPL-3.0-or-later
"""Isotropic remeshing (Botsch & Kobbelt 2004): split long edges, collapse short ones, flip towards even valence, smooth
in the tangent plane, project back onto the input.

Every operation works on a large independent set of edges at once, so that it is a handful of tensor operations on any
device: an edge acts if its priority is the smallest of all that touch what it would change.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.geometry.closest_point import ClosestPoint
from backend.geometry.mesh import Edges, edge_triangles, face_areas, unique_edges

LONGEST, SHORTEST = 4.0 / 3.0, 4.0 / 5.0  # of the target length; the published bounds
SMOOTH, LINE, CORNER = 0, 1, 2  # what a vertex lies on
BEND = 45.0  # degrees by which a crease turns at a corner
SLIVER = 0.25  # shape below which a triangle is flipped away whatever the valences
INFINITE = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class _Features:
    edges: Tensor  # [E] bool: creases and borders
    vertices: Tensor  # [V] int64: SMOOTH, LINE or CORNER


def target_edge_for(vertices: Tensor, triangles: Tensor, target_triangles: int) -> float:
    """Edge length at which equilateral triangles of that number have the mesh's area."""
    area = float(face_areas(vertices.double(), triangles).sum())
    return math.sqrt(4.0 * area / (math.sqrt(3.0) * max(target_triangles, 1)))


def remesh(
    vertices: Tensor,
    triangles: Tensor,
    target_edge: float | None = None,
    target_triangles: int | None = None,
    iterations: int = 5,
    feature_angle: float | None = 60.0,
    time_limit_s: float = math.inf,
    progress: Callable[[float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Even triangles of edge length `target_edge` (world units), or of about `target_triangles`, on the same surface.

    vertices [V, 3], triangles [T, 3]: an oriented 2-manifold with or without border (`mesh.clean` makes one), which it
    stays. Edges whose faces turn by more than `feature_angle` degrees are kept as creases (None: no creases). Stops
    early at the time limit; whatever it returns is sound.
    """
    assert (target_edge is None) != (target_triangles is None)
    if not len(triangles):
        return vertices, triangles
    start = time.monotonic()
    dtype, index_dtype = vertices.dtype, triangles.dtype
    center = vertices.mean(0)
    scale = float((vertices - center).abs().max()) or 1.0
    points, faces = ((vertices - center) / scale).float(), triangles.long()
    surface = ClosestPoint(points, faces)
    generator = torch.Generator(device=points.device).manual_seed(0)
    wanted = target_edge / scale if target_edge is not None else 0.0
    for step in range(iterations):
        if target_triangles is not None:
            # The bounds leave edges somewhat shorter than their target; the count tells by how much.
            ideal = target_edge_for(points, faces, target_triangles)
            wanted = ideal if step == 0 else wanted * min(max(math.sqrt(len(faces) / target_triangles), 0.9), 1.1)
        points, faces = split_long(points, faces, LONGEST * wanted)
        points, faces = collapse_short(points, faces, wanted, feature_angle, generator)
        faces = flip_edges(points, faces, feature_angle, generator)
        points = smooth(points, faces, feature_angle, surface)
        if progress is not None:
            progress((step + 1) / iterations)
        if time.monotonic() - start > time_limit_s:
            break
    # Needles left beside creases: there the shape of triangles counts for more than the crease.
    points, faces = collapse_short(points, faces, wanted, None, generator, shortest=0.3, longest=2.0)
    faces = flip_edges(points, faces, None, generator, rounds=3, only_poor=True)
    return points.to(dtype) * scale + center, faces.to(index_dtype)


def _normals(points: Tensor, faces: Tensor) -> Tensor:
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    return torch.linalg.cross(b - a, c - a)


def _largest(rows: Tensor) -> Tensor:
    """Largest of three columns; torch's own reduction over so short an axis takes 20 times as long on a CPU."""
    return torch.maximum(torch.maximum(rows[:, 0], rows[:, 1]), rows[:, 2])


def _unit(vectors: Tensor) -> Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-30)


def _features(points: Tensor, faces: Tensor, edges: Edges, sides: Tensor, angle: float | None) -> _Features:
    """Creases and borders. More than a tenth of creases is noise, not shape: then only borders count."""
    border = edges.counts != 2
    crease = border.clone()
    if angle is not None:
        normals = _unit(_normals(points, faces))
        turn = (normals[sides[:, 0]] * normals[sides[:, 1]]).sum(-1)
        sharp = ~border & (turn < math.cos(math.radians(angle)))
        if float(sharp.float().mean()) < 0.1:
            crease |= sharp
    count = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    count.index_add_(0, edges.vertices[crease].reshape(-1), torch.ones_like(edges.vertices[crease].reshape(-1)))
    lines = edges.vertices[crease]
    direction = _unit(points[lines[:, 1]] - points[lines[:, 0]])
    bend = torch.zeros_like(points).index_add_(0, lines[:, 0], direction).index_add_(0, lines[:, 1], -direction)
    straight = bend.square().sum(-1) < (2.0 * math.sin(math.radians(0.5 * BEND))) ** 2
    kind = torch.where(count == 0, SMOOTH, torch.where((count == 2) & straight, LINE, CORNER))
    return _Features(crease, kind)


def split_long(points: Tensor, faces: Tensor, longest: float, rounds: int = 12) -> tuple[Tensor, Tensor]:
    """Halves every edge above `longest`, all at once: triangles with one, two or three halved edges have patterns."""
    for _ in range(rounds):
        edges = unique_edges(faces)
        ends = points[edges.vertices]
        long = torch.linalg.vector_norm(ends[:, 0] - ends[:, 1], dim=-1) > longest
        count = int(long.sum())
        if not count:
            break
        middle = torch.full((len(long),), -1, dtype=torch.int64, device=faces.device)
        middle[long] = torch.arange(count, device=faces.device) + len(points)
        points = torch.cat([points, ends[long].mean(1)])
        marks = middle[edges.of_corner]  # [T, 3]
        marked = (marks >= 0).sum(1)
        # Turn each triangle so that its pattern starts at corner 0: a single mark on edge 0, a missing one on edge 2.
        shift = torch.where(marked == 1, (marks >= 0).long().argmax(1), ((marks < 0).long().argmax(1) + 1) % 3)
        shift = torch.where(marked == 3, 0, shift)
        turn = (shift[:, None] + torch.arange(3, device=faces.device)) % 3
        corner, mark = faces.gather(1, turn), marks.gather(1, turn)
        a, b, c = corner.unbind(1)
        m, n, o = mark.unbind(1)
        one, two, three = marked == 1, marked == 2, marked == 3
        parts = [faces[marked == 0]]
        parts += [torch.stack(x, 1)[one] for x in ((a, m, c), (m, b, c))]
        a2, b2, c2, m2, n2 = a[two], b[two], c[two], m[two], n[two]
        across = (points[a2] - points[n2]).square().sum(1) < (points[m2] - points[c2]).square().sum(1)
        parts.append(torch.stack([m2, b2, n2], 1))
        parts.append(torch.where(across[:, None], torch.stack([a2, m2, n2], 1), torch.stack([a2, m2, c2], 1)))
        parts.append(torch.where(across[:, None], torch.stack([a2, n2, c2], 1), torch.stack([m2, n2, c2], 1)))
        parts += [torch.stack(x, 1)[three] for x in ((a, m, o), (m, b, n), (o, n, c), (m, n, o))]
        faces = torch.cat(parts)
    return points, faces


def _priorities(chosen: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Distinct random priorities [count] int64 for the chosen edge numbers, INFINITE for the others."""
    priority = torch.full((count,), INFINITE, dtype=torch.int64, device=chosen.device)
    priority[chosen] = torch.randperm(len(chosen), generator=generator, device=chosen.device)
    return priority


def collapse_short(
    points: Tensor,
    faces: Tensor,
    wanted: float,
    feature_angle: float | None,
    generator: torch.Generator,
    shortest: float = SHORTEST,
    longest: float = LONGEST,
    rounds: int = 60,
) -> tuple[Tensor, Tensor]:
    """Collapses edges below `shortest` times the wanted length where topology (link condition), creases and normals
    allow it and no edge becomes longer than `longest` times that length."""
    refused = torch.zeros(len(points), dtype=torch.bool, device=points.device)  # vertices whose edges were just refused
    for _ in range(rounds):
        edges = unique_edges(faces)
        sides, corners = edge_triangles(edges)
        features = _features(points, faces, edges, sides, feature_angle)
        one, two = edges.vertices.unbind(1)
        kinds = features.vertices[edges.vertices]
        short = (points[one] - points[two]).square().sum(1) < (shortest * wanted) ** 2
        # Two feature vertices may only join along their crease, two corners never.
        lesser = torch.minimum(kinds[:, 0], kinds[:, 1])
        short &= (lesser == SMOOTH) | (features.edges & (lesser == LINE))
        short &= ~(refused[one] & refused[two])
        valence = torch.bincount(edges.vertices.reshape(-1), minlength=len(points))
        tips = torch.where(sides >= 0, faces[sides, (corners + 2) % 3], -1)
        stiff = (tips >= 0) & (valence[tips] <= 3)
        short &= ~(stiff[:, 0] | stiff[:, 1])
        candidates = torch.nonzero(short).reshape(-1)
        if len(candidates) < 1 + (len(short) // 2000 if shortest == SHORTEST else 0):
            break
        selected = _independent_collapses(edges.vertices, candidates, len(points), generator)
        before = len(faces)
        points, faces, refused = _collapse(points, faces, edges, features, selected, longest * wanted, refused)
        if before - len(faces) < (before // 500 if shortest == SHORTEST else 1):
            break  # the next iteration goes on
    return points, faces


def _independent_collapses(ends: Tensor, candidates: Tensor, vertex_count: int, generator: torch.Generator) -> Tensor:
    """Edge numbers such that no endpoint of one is joined by an edge to an endpoint of another."""
    priority = _priorities(candidates, len(ends), generator)
    least = torch.full((vertex_count,), INFINITE, dtype=torch.int64, device=ends.device)
    chosen = ends[candidates]
    least.scatter_reduce_(0, chosen.reshape(-1), priority[candidates].repeat_interleave(2), "amin")
    wider = least.clone()
    wider.scatter_reduce_(0, ends[:, 0], least[ends[:, 1]], "amin")
    wider.scatter_reduce_(0, ends[:, 1], least[ends[:, 0]], "amin")
    mine = priority[candidates]
    return candidates[(wider[chosen[:, 0]] == mine) & (wider[chosen[:, 1]] == mine)]


def _collapse(
    points: Tensor, faces: Tensor, edges: Edges, features: _Features, selected: Tensor, limit: float, refused: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carries out those of the selected collapses that keep the mesh a manifold and no triangle turns over."""
    ends = edges.vertices[selected]  # [S, 2]
    kinds = features.vertices[ends]
    position = points[ends].mean(1)
    position = torch.where((kinds[:, 0] > kinds[:, 1])[:, None], points[ends[:, 0]], position)
    position = torch.where((kinds[:, 1] > kinds[:, 0])[:, None], points[ends[:, 1]], position)
    owner = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    owner[ends.reshape(-1)] = torch.arange(len(selected), device=points.device).repeat_interleave(2)

    # Link condition: the ends have as many common neighbors as the edge has triangles.
    edge_owner = owner[edges.vertices]
    outer = edge_owner[:, 0] != edge_owner[:, 1]
    near = [(edge_owner[outer, k], edges.vertices[outer, 1 - k]) for k in (0, 1)]
    keys = torch.cat([e[e >= 0] * len(points) + v[e >= 0] for e, v in near]).sort().values
    common = keys[1:][keys[1:] == keys[:-1]] // len(points)
    number = torch.bincount(common, minlength=len(selected))
    good = number == edges.counts[selected]

    face_owner = _largest(owner[faces])
    touched = torch.nonzero(face_owner >= 0).reshape(-1)
    of = face_owner[touched]
    corner = faces[touched]
    mine = owner[corner] >= 0
    stays = mine.sum(1) == 1
    touched, of, corner, mine = touched[stays], of[stays], corner[stays], mine[stays]
    old = points[corner]
    new = torch.where(mine[..., None], position[of][:, None, :], old)
    old_normal = torch.linalg.cross(old[:, 1] - old[:, 0], old[:, 2] - old[:, 0])
    new_normal = torch.linalg.cross(new[:, 1] - new[:, 0], new[:, 2] - new[:, 0])
    new_longest, old_longest = (_largest((x.roll(-1, 1) - x).square().sum(-1)) for x in (new, old))
    new_area, old_area = (torch.linalg.vector_norm(x, dim=-1) for x in (new_normal, old_normal))
    bad = (old_normal * new_normal).sum(-1) < 0.5 * old_area * new_area
    # A needle's normal says little: what replaces it must face like its surroundings.
    around = torch.zeros_like(position).index_add_(0, of, old_normal)[of]
    bad = torch.where(old_area > 0.02 * old_longest, bad, (around * new_normal).sum(-1) < 0)
    bad |= new_longest > torch.clamp(old_longest, min=limit**2)
    bad |= (new_area < 0.1 * new_longest) & (new_area * old_longest < old_area * new_longest)  # no new needles
    bad |= new_area < 1e-5 * new_longest
    good &= torch.bincount(of[bad], minlength=len(selected)) == 0

    refused = refused.clone()
    refused[ends[~good].reshape(-1)] = True
    changed = corner[good[of]]
    refused[changed.reshape(-1)] = False
    keep, gone = ends[good, 0], ends[good, 1]
    points = points.clone()
    points[keep] = position[good]
    target = torch.arange(len(points), device=points.device)
    target[gone] = keep
    faces = target[faces]
    a, b, c = faces.unbind(1)
    faces = faces[(a != b) & (b != c) & (c != a)]
    alive = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    alive[faces.reshape(-1)] = True
    number = torch.cumsum(alive, 0) - 1
    return points[alive], number[faces], refused[alive]


def flip_edges(
    points: Tensor,
    faces: Tensor,
    feature_angle: float | None,
    generator: torch.Generator,
    rounds: int = 8,
    only_poor: bool = False,
) -> Tensor:
    """Flips edges while that brings valences closer to 6 (4 at borders) and keeps shape and manifold."""
    for _ in range(rounds):
        edges = unique_edges(faces)
        sides, corners = edge_triangles(edges)
        features = _features(points, faces, edges, sides, feature_angle)
        one, two = sides.unbind(1)
        a, b = faces[one, corners[:, 0]], faces[one, (corners[:, 0] + 1) % 3]
        c, d = faces[one, (corners[:, 0] + 2) % 3], faces[two, (corners[:, 1] + 2) % 3]
        border = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        border[edges.vertices[edges.counts == 1].reshape(-1)] = True
        excess = torch.bincount(edges.vertices.reshape(-1), minlength=len(points)) - torch.where(border, 4, 6)
        before = excess[a].abs() + excess[b].abs() + excess[c].abs() + excess[d].abs()
        after = (excess[a] - 1).abs() + (excess[b] - 1).abs() + (excess[c] + 1).abs() + (excess[d] + 1).abs()
        poor = _shape(points, faces) < SLIVER
        poor = poor[one] | poor[two]  # two is −1 at borders, which the next line leaves out
        chosen = torch.nonzero((poor if only_poor else poor | (after < before)) & ~features.edges & (two >= 0)).reshape(
            -1
        )
        poor = poor[chosen]
        a, b, c, d, one, two = (x[chosen] for x in (a, b, c, d, one, two))
        first, second = torch.stack([a, d, c], 1), torch.stack([d, b, c], 1)
        base = int(edges.vertices.max()) + 1
        keys = edges.vertices[:, 0] * base + edges.vertices[:, 1]
        wanted = torch.minimum(c, d) * base + torch.maximum(c, d)
        exists = keys[torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)] == wanted
        good = ~exists & (c != d) & _flip_keeps_shape(points, (a, b, c, d), first, second, poor)
        chosen, one, two, first, second = (x[good] for x in (chosen, one, two, first, second))
        if not len(chosen):
            break
        quad = torch.stack([a[good], b[good], c[good], d[good]], 1)
        priority = torch.randperm(len(chosen), generator=generator, device=chosen.device)
        least = torch.full((len(points),), INFINITE, dtype=torch.int64, device=points.device)
        least.scatter_reduce_(0, quad.reshape(-1), priority.repeat_interleave(4), "amin")
        wins = (least[quad] == priority[:, None]).all(1)
        faces = faces.clone()
        faces[one[wins]] = first[wins]
        faces[two[wins]] = second[wins]
    return faces


def _flip_keeps_shape(points: Tensor, quad: tuple[Tensor, ...], first: Tensor, second: Tensor, poor: Tensor) -> Tensor:
    """Whether the pair is flat within 40 degrees before and after, and its worse triangle stays good or improves.

    For pairs with a sliver (`poor`) the sliver's own normal says nothing, and it has to become twice as good.
    """
    a, b, c, d = quad
    one, two = torch.stack([a, b, c], 1), torch.stack([b, a, d], 1)
    old = [_normals(points, x) for x in (one, two)]
    mean = _unit(old[0] + old[1])
    flat = math.cos(math.radians(40.0))
    good = poor | ((_unit(old[0]) * _unit(old[1])).sum(-1) > flat)
    for corners in (first, second):
        good &= (_unit(_normals(points, corners)) * mean).sum(-1) > flat
    worst = torch.minimum(_shape(points, first), _shape(points, second))
    was = torch.minimum(_shape(points, one), _shape(points, two))
    return good & torch.where(poor, worst > 2.0 * was, (worst > 0.4) | (worst > was))


def _shape(points: Tensor, faces: Tensor) -> Tensor:
    """4√3 · area / sum of squared edges, 1 for equilateral triangles, 0 for degenerate ones."""
    corner = points[faces]
    squares = (corner.roll(-1, 1) - corner).square().sum((-1, -2))
    return 2.0 * math.sqrt(3.0) * torch.linalg.vector_norm(_normals(points, faces), dim=-1) / squares.clamp(min=1e-30)


def smooth(
    points: Tensor, faces: Tensor, feature_angle: float | None, surface: ClosestPoint, strength: float = 0.8
) -> Tensor:
    """Moves vertices towards the center of their triangles in the tangent plane and back onto the surface; vertices of
    a crease along it, corners not at all. A vertex whose triangles would turn over or degenerate stays."""
    edges = unique_edges(faces)
    sides, _ = edge_triangles(edges)
    features = _features(points, faces, edges, sides, feature_angle)
    normals = _normals(points, faces)
    area = torch.linalg.vector_norm(normals, dim=-1, keepdim=True)
    index = faces.reshape(-1)
    sums = torch.zeros((len(points), 7), dtype=points.dtype, device=points.device)
    per_face = torch.cat([points[faces].mean(1) * area, normals, area], 1)
    sums.index_add_(0, index, per_face.repeat_interleave(3, 0))
    center = sums[:, :3] / sums[:, 6:].clamp(min=1e-30)
    normal = _unit(sums[:, 3:6])
    move = center - points
    move = move - normal * (normal * move).sum(-1, keepdim=True)
    crease = edges.vertices[features.edges]
    along = torch.zeros_like(points)
    toward = torch.zeros_like(points)
    direction = points[crease[:, 1]] - points[crease[:, 0]]
    # The signed sum of two edge directions depends on the order of indices; of their outer product it would not, but
    # with two neighbors the chord between them is simply the difference of the two offsets.
    toward.index_add_(0, crease[:, 0], direction).index_add_(0, crease[:, 1], -direction)
    flag = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    numbers = torch.arange(len(crease), device=points.device)
    flag.scatter_reduce_(0, crease.reshape(-1), numbers.repeat_interleave(2), "amax", include_self=False)
    if len(crease):
        along = _unit(toward - 2 * _offset(points, crease, flag))
    line_move = along * (0.5 * toward * along).sum(-1, keepdim=True)
    move = torch.where((features.vertices == SMOOTH)[:, None], move, line_move)
    move = torch.where((features.vertices == CORNER)[:, None], 0.0, move) * strength
    moved, _ = surface(points + move)
    moved = torch.where((features.vertices == CORNER)[:, None], points, moved)
    old_unit, old_shape = _unit(normals), _shape(points, faces)
    for _ in range(10):
        new_normal = _normals(moved, faces)
        bad = (_unit(new_normal) * old_unit).sum(-1) < 0.5
        shape = _shape(moved, faces)
        bad |= (shape < 0.3) & (shape < old_shape)
        if not bool(bad.any()):
            return moved
        back = torch.unique(faces[bad])
        moved = moved.clone()
        moved[back] = points[back]
    return points


def _offset(points: Tensor, crease: Tensor, edge: Tensor) -> Tensor:
    """Offset [V, 3] from each vertex to the other end of the given crease edge of it."""
    pair = crease[edge.clamp(max=len(crease) - 1)]
    vertex = torch.arange(len(points), device=points.device)
    other = torch.where(pair[:, 0] == vertex, pair[:, 1], pair[:, 0])
    return points[other] - points[vertex]
