# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the method that can be turned off, to see what each is worth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import UserError

SWITCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "carve-stage": ("a radiance field that carves the visual hull", {"carve_steps": 0}),
    "pose-refinement": ("cameras moved to where the mesh looks most like the photographs", {"refine_cameras": False}),
    "remeshing": ("even triangles instead of the isosurface's", {"remesh_rounds": 0}),
    "surface-stage": ("vertices, field and light refined on the even mesh", {"surface_steps": 0}),
    "texture-stage": ("textures and light refined at full resolution", {"texture_steps": 0}),
    "shadows": ("traced shadows, and with them the bounce", {"transport_size": 0}),
    "bounce": ("light that the object throws on itself", {"bounce": False}),
    "neutrality": ("preference for gray light", {"light_neutrality": 0.0, "light_tint": 0.0}),
    "light-smoothness": ("preference for even light", {"light_smoothness": 0.0}),
    "smoothness": ("preference for even materials", {"material_smoothness": 0.0}),
    "similarity": ("preference for one material per color", {"material_similarity": 0.0, "material_inertia": 0.02}),
    "stiffness": ("preference for texels that change as their neighbors do", {"texture_stiffness": 0.0}),
    "metallic-prior": ("preference for dielectrics", {"metallic_prior": 0.0}),
    "metal-evidence": ("metal told from dielectric by which of them fits", {"metal_evidence": False}),
    "bending": ("preference for smooth surfaces", {"bending": 0.0}),
    "eikonal": ("gradient of the distance field held at one", {"eikonal": 0.0}),
}
"""name -> (what it does, the settings that turn it off)."""


def switch_names(words: Iterable[str]) -> list[str]:
    """The switches that `--without` names, each word one or several with commas between, once each.

    Raises:
        UserError: there is no such switch.
    """
    names = dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip())
    for name in names:
        if name not in SWITCHES:
            raise UserError(
                what="no such part of the method",
                where=f"--without {name}",
                expected="one of " + ", ".join(SWITCHES),
                found=name,
            )
    return list(names)


def settings_without(names: Iterable[str]) -> dict[str, Any]:
    """The settings that turn these switches off."""
    return {key: value for name in names for key, value in SWITCHES[name][1].items()}
