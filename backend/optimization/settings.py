# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruction can be told, and the three presets."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ..errors import UserError

Preset = Literal["draft", "standard", "high"]


@dataclass(frozen=True)
class Settings:
    """All choices of a job. Step counts, not seconds, so that a job gives the same asset on any machine.

    Attributes:
        preset: where the other values come from.
        device: auto, cpu or cuda.
        rasterizer: warp, or nvdiffrast where it is installed.
        seed: of all random choices.
        holdout: every so many views are kept for evaluation where the capture has no test split; 0 uses all.
        max_size: photographs are reduced to this many pixels on their longer side; 0 keeps them.
        batch: photographs per step.
        grid_cells: cells of the field along the longest side of the object.
        shape_steps, surface_steps, texture_steps: length of the three stages.
        shape_size, surface_size, texture_stage_size: longer side of the photographs in the stages, pixels.
        vertex_rate: longest step of a vertex, in edge lengths.
        texture_rate: learning rate of the texels.
        texture_inertia: weight that holds texels to the values of the field they were baked from.
        table_size: log2 of the entries of a level of the hash grids.
        light_size: side of a face of the environment's cube map, texels.
        light_interval: steps from one filtering of the light to the next.
        transport_size: texels along a face of the cube of directions in which shadows are traced, a power of two; 0 is
            no shadows.
        bounce: whether light that the object throws on itself counts.
        target_triangles: of the final mesh, about.
        texture_size: side of the textures, texels.
        sign_change, eikonal, smoothness, material_smoothness, light_neutrality: weights of the regularisers.
        refine_cameras: whether poses may move a little to fit the photographs.
    """

    preset: str = "draft"
    device: str = "auto"
    rasterizer: str = "warp"
    seed: int = 0
    holdout: int = 0
    max_size: int = 0
    batch: int = 1
    grid_cells: int = 80
    shape_steps: int = 600
    surface_steps: int = 500
    texture_steps: int = 500
    shape_size: int = 256
    surface_size: int = 400
    texture_stage_size: int = 400
    vertex_rate: float = 0.05
    texture_rate: float = 0.006
    texture_inertia: float = 0.05
    table_size: int = 16
    light_size: int = 16
    light_interval: int = 4
    transport_size: int = 8
    bounce: bool = True
    target_triangles: int = 40_000
    texture_size: int = 512
    sign_change: float = 0.02
    eikonal: float = 0.002
    smoothness: float = 0.02
    material_smoothness: float = 0.004
    light_neutrality: float = 0.005
    refine_cameras: bool = False

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
            if name not in kinds:
                raise UserError(
                    what="no such setting", where=f"--set {name}", expected="one of " + ", ".join(kinds), found=name
                )
            converted[name] = _convert(name, value, kinds[name])
        return replace(settings, **converted)


def _convert(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, str) and kind is bool:
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off"):
            return False
    elif kind is not bool:
        try:
            return kind(value)
        except (TypeError, ValueError):
            pass
    elif isinstance(value, bool):
        return value
    raise UserError(what="wrong kind of value", where=f"--set {name}", expected=kind.__name__, found=repr(value))


PRESETS: dict[str, Settings] = {
    "draft": Settings(),
    "standard": Settings(
        preset="standard",
        batch=4,
        grid_cells=160,
        shape_steps=1200,
        surface_steps=1200,
        texture_steps=1000,
        shape_size=400,
        surface_size=800,
        texture_stage_size=1024,
        table_size=18,
        light_size=32,
        light_interval=1,
        transport_size=8,
        target_triangles=160_000,
        texture_size=2048,
    ),
    "high": Settings(
        preset="high",
        batch=8,
        grid_cells=224,
        shape_steps=2500,
        surface_steps=2500,
        texture_steps=2500,
        shape_size=800,
        surface_size=1024,
        texture_stage_size=2048,
        table_size=18,
        light_size=32,
        light_interval=1,
        transport_size=8,
        target_triangles=320_000,
        texture_size=4096,
    ),
}
