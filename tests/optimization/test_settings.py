# SPDX-License-Identifier: GPL-3.0-or-later
"""What settings accept and how they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend.errors import UserError
from backend.optimization.settings import PRESETS, Settings


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_say_their_name(preset: str) -> None:
    assert Settings.from_preset(preset).preset == preset


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("grid_cells", 40, 40),
        ("target_triangles", 1e5, 100_000),
        ("vertex_rate", 1, 1.0),
        ("texture_steps", 0, 0),
        ("transport_size", 0, 0),
        ("bounce", False, False),
        ("bounce", "no", False),
        ("bounce", 1, True),
        ("rasterizer", "nvdiffrast", "nvdiffrast"),
        ("device", "cpu", "cpu"),
    ],
)
def test_values_are_taken_and_have_their_kind(name: str, value: Any, expected: Any) -> None:
    found = getattr(Settings.from_preset("draft", overrides={name: value}), name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            (name, 0)
            for name in ("grid_cells", "batch", "shape_size", "surface_size", "texture_size", "light_interval")
        ],
        *[(name, -1) for name in ("shape_steps", "surface_steps", "texture_steps", "holdout", "max_size", "seed")],
        *[("seed", value) for value in (1.7, True, None, "lots", [1], 10**400, json.loads("1e400"))],
        *[("vertex_rate", value) for value in (-0.1, True, "fast", json.loads("NaN"), json.loads("Infinity"), 10**400)],
        *[("light_size", value) for value in (4, 12, 0)],
        *[("transport_size", value) for value in (3, 32, -2)],
        ("table_size", 60),
        ("grid_cells", 15),
        ("vertex_rate", 1.1),
        ("rasterizer", "opengl"),
        ("device", "tpu"),
        ("device", 3),
        ("bounce", "maybe"),
        ("preset", "high"),
        ("refine_lenses", True),
    ],
)
def test_wrong_values_are_one_line_that_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(UserError) as error:
        Settings.from_preset("draft", overrides={name: value})
    assert f"--set {name}" in str(error.value) and "\n" not in str(error.value)


def test_no_such_preset() -> None:
    with pytest.raises(UserError, match="draft, standard, high"):
        Settings.from_preset("best")
