# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of dual marching cubes: into which sheets the surface falls apart in a cell, by the signs at its corners.

Corner k of a cell stands at bits (k & 1, k >> 1 & 1, k >> 2 & 1) of (x, y, z). A cell has up to four sheets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


def edge_of(axis: int, bit_b: int, bit_c: int) -> int:
    """Number 0..11 of the cell edge along `axis` at the given bits of the two following axes."""
    return axis * 4 + bit_b + 2 * bit_c


@dataclass(frozen=True)
class CellTables:
    """What the signs at the corners say; all int32. A configuration has bit k where corner k is inside.

    Attributes:
        sheet_of_edge: [256, 12] sheet of each edge's crossing, −1 where it has none.
        sheet_count: [256].
        edges: [12, 2] corners, low end first.
        seen_as: [3, 4] number that an edge along each axis has in each of its four cells, as `Band.edge_cells` lists
            them: at (−, −), (0, −), (0, 0), (−, 0) along the two following axes.
    """

    sheet_of_edge: Tensor
    sheet_count: Tensor
    edges: Tensor
    seen_as: Tensor


@cache
def cell_tables(device: torch.device) -> CellTables:
    """The tables on a device."""
    edges = _cell_edges()
    sheets = torch.tensor([_sheets([bool(code >> k & 1) for k in range(8)], edges) for code in range(256)])
    seen_as = [[edge_of(axis, b, c) for b, c in ((1, 1), (0, 1), (0, 0), (1, 0))] for axis in range(3)]
    found = (sheets, sheets.amax(dim=1) + 1, torch.tensor(edges), torch.tensor(seen_as))
    return CellTables(*(table.to(device, torch.int32) for table in found))


def _cell_edges() -> list[tuple[int, int]]:
    """Corner pairs of the 12 cell edges, in the numbering of `edge_of`, low end first."""
    edges = []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        for bit_c in (0, 1):
            for bit_b in (0, 1):
                low = (bit_b << b) | (bit_c << c)
                edges.append((low, low | (1 << axis)))
    return edges


def _sheets(inside: list[bool], edges: list[tuple[int, int]]) -> list[int]:
    """Sheet number of each edge (−1 where not crossed) for one sign configuration.

    Crossings that share a face belong to one sheet. On a face with four crossings the inside corners are kept apart,
    a rule that both cells of the face decide alike.
    """
    crossed = [inside[a] != inside[b] for a, b in edges]
    parent = list(range(12))

    def root(e: int) -> int:
        while parent[e] != e:
            e = parent[e]
        return e

    for axis in range(3):
        for side in (0, 1):
            face = [e for e, (a, b) in enumerate(edges) if (a >> axis & 1) == side == (b >> axis & 1) and crossed[e]]
            if len(face) == 2:
                parent[root(face[0])] = root(face[1])
            elif len(face) == 4:
                for corner in range(8):
                    pair = [e for e in face if corner in edges[e]]
                    if inside[corner] and len(pair) == 2:
                        parent[root(pair[0])] = root(pair[1])
    roots = sorted({root(e) for e in range(12) if crossed[e]})
    return [roots.index(root(e)) if crossed[e] else -1 for e in range(12)]
