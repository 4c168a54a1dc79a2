# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruction can be told, and the three presets."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from ..errors import UserError

Preset = Literal["draft", "standard", "high"]
Rasterizer = Literal["warp", "nvdiffrast"]

CHOICES = {"device": ("auto", "cpu", "cuda"), "rasterizer": get_args(Rasterizer)}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
WORDS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
# Smallest and largest value of the numbers; those not named are at least 1, or 0 where they are not whole.
LIMITS: dict[str, tuple[int, int]] = {
    "seed": (0, 2**62),
    "holdout": (0, 2**31 - 1),
    "max_size": (0, 2**31 - 1),
    "carve_cells": (16, 512),
    "carve_steps": (0, 2**31 - 1),
    "shape_steps": (0, 2**31 - 1),
    "surface_steps": (0, 2**31 - 1),
    "texture_steps": (0, 2**31 - 1),
    "remesh_rounds": (0, 2**31 - 1),
    "vertex_rate": (0, 1),
    "texture_rate": (0, 1),
    "grid_cells": (16, 1024),
    "table_size": (4, 24),
    "light_size": (8, 512),
    "transport_size": (0, 32),
    "texture_size": (32, 16384),
}


@dataclass(frozen=True)
class Settings:
    """All choices of a job. Step counts, not seconds, so that a job gives the same asset on any machine.

    Attributes:
        preset: where the other values come from.
        device: auto, cpu or cuda.
        rasterizer: warp, or nvdiffrast where it is installed.
        seed: of all random choices.
        holdout: every so many views are kept for evaluation where the capture has no test split; 0 uses all.
        max_size: photographs are reduced to this many pixels on their longer side, and at least to what the largest
            stage uses; 0 is no more than that.
        batch: photographs per step.
        grid_cells: most cells of the field along the longest side of the object; fewer where photographs do not show
            so much.
        carve_cells: voxels of the radiance field along the longest side of the object.
        carve_rays: rays in a step of the carve stage.
        carve_steps, shape_steps, surface_steps, texture_steps: length of the four stages.
        carve_size, shape_size, surface_size, texture_stage_size: longer side of the photographs in the stages, pixels.
        samples: most samples along a side of a pixel in the surface and the texture stage, where their sizes have room.
        refine_cameras: whether cameras that do not fit the mesh are moved, once there is one.
        vertex_rate: longest step of a vertex, in edge lengths.
        texture_rate: learning rate of the texels.
        texture_inertia: weight that holds texels to the values of the field they were baked from.
        material_inertia: the same for roughness and metallic, of which a single texel tells little.
        texture_stiffness: weight that lets texels change only as their neighbors do.
        table_size: log2 of the entries of a level of the hash grids.
        light_size: side of a face of the environment's cube map, texels.
        light_interval: steps from one filtering of the light to the next.
        transport_size: texels along a face of the cube of directions in which shadows are traced, a power of two; 0 is
            no shadows.
        bounce: whether light that the object throws on itself counts.
        target_triangles: most triangles of the final mesh, about; fewer where photographs do not show so much.
        remesh_rounds: that make its triangles even; 0 leaves them as the isosurface has them.
        texture_size: longest side of the textures, texels; less where the photographs do not show so much.
        preview_seconds: from one preview of the mesh to the next; 0 is none.
        sign_change, eikonal, bending, material_smoothness, light_neutrality: weights of the regularisers.
        light_tint: weight that holds the mean color of the light near gray.
        light_smoothness: weight that gives neighboring directions the same light.
        material_similarity: weight that gives points of one color the same roughness and metallic.
        metallic_prior: weight that keeps a surface dielectric until the photographs say otherwise.
        metal_evidence: whether the texture stage begins by telling metal from dielectric.
    """

    preset: str = "draft"
    device: str = "auto"
    rasterizer: str = "warp"
    seed: int = 0
    holdout: int = 0
    max_size: int = 0
    batch: int = 1
    carve_cells: int = 64
    carve_rays: int = 4096
    carve_steps: int = 0
    carve_size: int = 200
    grid_cells: int = 80
    shape_steps: int = 500
    surface_steps: int = 200
    texture_steps: int = 600
    shape_size: int = 256
    surface_size: int = 400
    texture_stage_size: int = 400
    samples: int = 1
    refine_cameras: bool = True
    vertex_rate: float = 0.225
    texture_rate: float = 0.02
    texture_inertia: float = 0.02
    material_inertia: float = 0.1
    texture_stiffness: float = 0.3
    table_size: int = 16
    light_size: int = 16
    light_interval: int = 4
    transport_size: int = 8
    bounce: bool = True
    target_triangles: int = 40_000
    remesh_rounds: int = 3
    texture_size: int = 512
    preview_seconds: float = 2.0
    sign_change: float = 0.02
    eikonal: float = 0.002
    bending: float = 0.03
    material_smoothness: float = 0.004
    material_similarity: float = 0.02
    metallic_prior: float = 0.002
    metal_evidence: bool = True
    light_neutrality: float = 0.001
    light_tint: float = 0.05
    light_smoothness: float = 0.0

    def __post_init__(self) -> None:
        """Raises UserError for a value that no job can run with."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise _wrong(name, "one of " + ", ".join(choices), getattr(self, name))
        for name, value in vars(self).items():
            if isinstance(value, (bool, str)):
                continue
            low, high = LIMITS.get(name, (0, math.inf) if isinstance(value, float) else (1, 2**31 - 1))
            if not low <= value <= high or math.isinf(value):
                limit = f", at most {high}" if math.isfinite(high) and value > high else ""
                raise _wrong(name, f"a number of at least {low}{limit}", value)
        if self.light_size & (self.light_size - 1):
            raise _wrong("light_size", "a power of two", self.light_size)
        if self.transport_size & (self.transport_size - 1) or self.transport_size > self.light_size:
            raise _wrong(
                "transport_size", f"0 or a power of two up to light_size ({self.light_size})", self.transport_size
            )

    @staticmethod
    def from_preset(preset: str, device: str = "auto", overrides: dict[str, Any] | None = None) -> Settings:
        """The settings of a preset with some of them replaced.

        Raises:
            UserError: no such preset or setting, or a value of another kind.
        """
        if preset not in PRESETS:
            raise UserError(
                what="no such preset", where="--preset", expected=", ".join(PRESETS), found=preset, remedy="Choose one."
            )
        settings = replace(PRESETS[preset], device=device)
        kinds = {f.name: type(getattr(settings, f.name)) for f in fields(settings)}
        converted = {}
        for name, value in (overrides or {}).items():
            if name == "preset":
                raise UserError(what="the preset cannot be set", where="--set preset", remedy="Use --preset.")
            if name not in kinds:
                raise UserError(
                    what="no such setting", where=f"--set {name}", expected="one of " + ", ".join(kinds), found=name
                )
            converted[name] = _convert(name, value, kinds[name])
        return replace(settings, **converted)


def _convert(name: str, value: Any, kind: type) -> Any:
    """`value`, as JSON or a bare word gave it, as a bool, int, float or str."""
    if kind is bool:
        if str(value).lower() in WORDS:
            return WORDS[str(value).lower()]
    elif kind is str:
        if isinstance(value, str):
            return value
    elif isinstance(value, bool):
        pass  # an int in Python, but no number to a user
    elif isinstance(value, int) or (isinstance(value, float) and (kind is float or value.is_integer())):
        with contextlib.suppress(OverflowError):
            return kind(value)
    raise _wrong(name, KINDS[kind], value)


def _wrong(name: str, expected: str, value: Any) -> UserError:
    return UserError(what="not a possible value", where=f"--set {name}", expected=expected, found=str(value))


PRESETS: dict[str, Settings] = {
    "draft": Settings(),
    "standard": Settings(
        preset="standard",
        batch=4,
        carve_cells=160,
        carve_rays=1 << 15,
        carve_steps=2400,
        carve_size=512,
        grid_cells=160,
        shape_steps=1200,
        surface_steps=1000,
        texture_steps=500,
        vertex_rate=0.3,
        texture_rate=0.006,
        shape_size=400,
        surface_size=800,
        texture_stage_size=1024,
        samples=2,
        table_size=19,
        light_size=32,
        light_smoothness=0.001,
        light_interval=1,
        transport_size=8,
        target_triangles=240_000,
        texture_size=2048,
    ),
    "high": Settings(
        preset="high",
        batch=8,
        carve_cells=192,
        carve_rays=1 << 15,
        carve_steps=3000,
        carve_size=800,
        grid_cells=224,
        shape_steps=2500,
        surface_steps=2500,
        texture_steps=2500,
        vertex_rate=0.3,
        texture_rate=0.006,
        texture_stiffness=1.0,
        shape_size=800,
        surface_size=1024,
        texture_stage_size=2048,
        samples=2,
        table_size=19,
        light_size=32,
        light_smoothness=0.002,
        light_interval=1,
        transport_size=8,
        target_triangles=400_000,
        texture_size=4096,
    ),
}
