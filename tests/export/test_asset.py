# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from .shapes import cube


def test_a_sound_asset_passes():
    cube()
    cube(tangents=True)


def broken(field: str, value: Any) -> dict[str, Any]:
    array = getattr(cube(), field).copy()
    array.reshape(-1)[5] = value
    return {field: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("vertices", np.nan), "vertices: 1 of 72 values are NaN"),
        (broken("triangles", 24), "corners run from 0 to 24, but there are 24 vertices"),
        (broken("triangles", -1), "corners run from -1"),
        (broken("base_color", 1.5), "base_color: expected values in 0..1, found .*1.5"),
        (broken("roughness", -0.1), "roughness: expected values in 0..1"),
        (broken("environment", -1), "environment: expected values in 0..inf"),
        (broken("environment", np.inf), "environment: 1 of"),
        (broken("normals", 0.5), "normals: expected unit vectors, number 1 has length 1.1"),
        (broken("normal_map", 0), r"normal_map: expected unit vectors, number 1 has length 0"),
        ({"uvs": np.zeros((12, 3), np.float32)}, r"uvs: expected shape \[12, 3, 2\], got \[12, 3\]"),
        ({"metallic": np.zeros((8, 8), np.float32)}, r"metallic: expected shape \[96, 96\], got \[8, 8\]"),
        ({"vertices": np.zeros((24, 3))}, "vertices: expected float32, got float64"),
        ({"triangles": [[0, 1, 2]]}, "triangles: expected a numpy array, got list"),
        ({"environment": np.zeros((0, 0, 3), np.float32)}, "environment: is empty"),
        ({"name": "a/b"}, "name: 'a/b' cannot name a file"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str):
    with pytest.raises(AssertionError, match=message):
        replace(cube(), **change)
