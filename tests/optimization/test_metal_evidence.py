# SPDX-License-Identifier: GPL-3.0-or-later
"""Half a sphere is metal, the other half is not: the photographs must tell which, under a light that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.appearance.environment import EnvironmentLight
from backend.appearance.transport import Transport
from backend.capture import read_capture
from backend.capture.loader import load_photos
from backend.export.asset import Asset
from backend.kernels.primitives import WARP
from backend.kernels.vertex_normals import vertex_normals
from backend.optimization.metal_evidence import MetalEvidence, find_metal
from backend.optimization.stage_light import StageLight
from backend.optimization.views import VIEWS_AT_ONCE, TrainingViews
from tests.optimization.synthetic import bumpy_sphere, write_capture

SIZE = 48


def half_metal() -> Asset:
    """The sphere, one bright color all over, y > 0 of metal."""
    asset = bumpy_sphere()
    metallic = np.zeros_like(asset.metallic)
    metallic[:, : metallic.shape[1] // 2] = 1
    base_color = np.full_like(asset.base_color, 0.6)
    return replace(asset, base_color=base_color, metallic=metallic, roughness=np.full_like(metallic, 0.4))


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MetalEvidence, torch.Tensor]:
    """What was found, and the sphere's vertices [V, 3], both on the CPU."""
    device = torch.device(request.param)
    folder: Path = tmp_path_factory.mktemp("half_metal")
    asset = half_metal()
    write_capture(folder, train=24, test=1, size=SIZE, asset=asset)
    views = [view for view in read_capture(folder).views if view.split == "train"]
    vertices, triangles = (
        torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in (asset.vertices, asset.triangles)
    )
    environment = EnvironmentLight(16, device=device)
    environment.from_latlong(torch.from_numpy(asset.environment).to(device))
    light = StageLight(environment, 1)
    normals = vertex_normals(vertices, triangles)
    light.cast_shadows(Transport.trace(vertices, normals, triangles, 4, bounce=True), torch.full_like(vertices, 0.6))
    light.update(0)
    photos = TrainingViews(load_photos(views), SIZE, 0.01, device)
    calls: list[int] = []
    evidence = find_metal(vertices, normals, triangles, photos, light, WARP, lambda: calls.append(1))
    assert len(calls) == len(photos) / VIEWS_AT_ONCE  # so that it can be stopped
    found = MetalEvidence(evidence.metal.cpu(), evidence.dielectric.cpu(), evidence.material.cpu())
    return found, vertices.cpu()


def test_metal_is_found_where_it_is(found: tuple[MetalEvidence, torch.Tensor]) -> None:
    evidence, vertices = found
    for share in (evidence.metal, evidence.dielectric, evidence.metal + evidence.dielectric):
        assert share.shape == (len(vertices), 1) and bool(((share >= 0) & (share <= 1 + 1e-6)).all())
    inside = vertices[:, 1] > 0.2
    assert share_of(evidence.metal, inside) > 0.9 and share_of(evidence.dielectric, inside) < 0.05


def test_a_dielectric_of_the_same_color_is_left_alone(found: tuple[MetalEvidence, torch.Tensor]) -> None:
    evidence, vertices = found
    inside = vertices[:, 1] < -0.2
    assert share_of(evidence.dielectric, inside) > 0.9 and share_of(evidence.metal, inside) < 0.05


def test_the_metal_has_the_color_and_the_roughness_that_it_was_photographed_with(
    found: tuple[MetalEvidence, torch.Tensor],
) -> None:
    evidence, _ = found
    sure = evidence.material[evidence.metal[:, 0] > 0.99]
    assert sure.shape[1] == 5 and bool((sure[:, 4] == 1).all())
    assert sure[:, :3].median(0).values.tolist() == pytest.approx([0.6] * 3, abs=0.05)
    assert float(sure[:, 3].median()) == pytest.approx(0.4)


def share_of(flags: torch.Tensor, inside: torch.Tensor) -> float:
    """Part of the vertices inside whose flag is more set than not."""
    return float((flags[inside] > 0.5).float().mean())
