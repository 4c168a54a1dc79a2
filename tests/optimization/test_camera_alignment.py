# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that are a pixel off come back to where the photographs were taken; those that are right stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.appearance.environment import EnvironmentLight
from backend.appearance.projection import transform_points, world_to_clip
from backend.capture.loader import Photos
from backend.errors import Stopped
from backend.optimization import camera_alignment
from backend.optimization.camera_alignment import Aligner, Alignment, align_cameras
from backend.optimization.camera_motion import common_motion, flow_of_twist, moved, shift_of, twist_between
from backend.optimization.losses import KNEE
from backend.optimization.scene import Scene
from backend.optimization.settings import Settings
from backend.optimization.surface_stage import SurfaceState
from tests.appearance.scenes import studio
from tests.capture.builders import orbit_pose
from tests.optimization.synthetic import bumpy_sphere

VIEWS, SIZE, FOCAL = 14, 72, 60.0
SETTINGS = Settings.from_preset("draft", "cpu", {"transport_size": 4, "light_size": 8})
CPU = torch.device("cpu")


class Painted:
    """Stands in for a material field: stripes and patches of color, half rough."""

    def values(self, positions: Tensor) -> Tensor:
        x, y, z = positions.unbind(-1)
        waves = torch.stack((torch.sin(5 * x + 2 * z), torch.sin(4 * y), torch.sin(6 * z - 3 * x)), -1)
        return torch.cat((0.45 + 0.35 * waves, torch.full_like(waves[:, :1], 0.6), torch.zeros_like(waves[:, :1])), -1)


def surface() -> SurfaceState:
    ball = bumpy_sphere()
    light = EnvironmentLight(8)
    light.from_latlong(studio(16))
    material: Any = Painted()
    return SurfaceState(torch.from_numpy(ball.vertices), torch.from_numpy(ball.triangles), material, light)


def poses() -> Tensor:
    angles = 2 * np.pi * np.arange(VIEWS) / VIEWS
    return torch.from_numpy(
        np.stack([orbit_pose(a, 3.4, (1.6, -1.2, 0.2)[i % 3]) for i, a in enumerate(angles)])
    ).float()


def scene_of(cam_to_world: Tensor, rgba: Tensor | None = None) -> Scene:
    count = len(cam_to_world)
    photos = Photos(
        names=tuple(map(str, range(count))),
        rgba=torch.full((count, SIZE, SIZE, 4), 255, dtype=torch.uint8) if rgba is None else rgba,
        valid=None,
        intrinsics=torch.tensor([[FOCAL, FOCAL, SIZE / 2, SIZE / 2]]).repeat(count, 1),
        cam_to_world=cam_to_world,
        sizes=torch.tensor([[SIZE, SIZE]] * count, dtype=torch.int32),
        masked=torch.ones(count, dtype=torch.bool),
        exposures=torch.full((count,), float("nan")),
    )
    silhouettes: Any = None
    return Scene(photos, silhouettes, torch.tensor([[-1.2] * 3, [1.2] * 3]), CPU)


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """The sphere as the true cameras see it, [N, H, W, 4] uint8, straight alpha."""
    scene = scene_of(poses())
    aligner = Aligner(surface(), scene, SETTINGS, shadows=False)
    image = aligner.look(poses(), aligner.views.intrinsics).image
    straight = torch.cat((image[..., :3] / image[..., 3:].clamp(min=1e-3), image[..., 3:]), -1)
    return (straight.clamp(0, 1) * 255).round().byte()


def twists(rms: float, seed: int = 0) -> Tensor:
    """Random motions [N, 6] that shift the images by `rms` pixels."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([1.0, 1.0, 2.0, 3.4, 3.4, 6.8]) / FOCAL
    twist = torch.randn(VIEWS, 6, generator=generator) * scales
    twist -= common_motion(twist, metrics(), poses(), torch.zeros(3))
    return twist * rms / float(shift_of(twist, metrics()).square().mean().sqrt())


def metrics() -> Tensor:
    """Mean squares of the flow over the sphere [N, 6, 6], from its vertices."""
    vertices = surface().vertices
    found = []
    for pose in poses():
        columns, rows, depth = projected(vertices, pose)
        flow = flow_of_twist(columns, rows, depth, torch.tensor([FOCAL, FOCAL, SIZE / 2, SIZE / 2]))
        found.append(torch.einsum("pkt,pks->ts", flow, flow) / len(vertices))
    return torch.stack(found)


def projected(points: Tensor, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns, rows and depths [P] of world `points` [P, 3], by the transforms that the rasteriser gets."""
    intrinsics = torch.tensor([[FOCAL, FOCAL, SIZE / 2, SIZE / 2]], dtype=pose.dtype)
    clip = transform_points(points, world_to_clip(pose[None], intrinsics, (SIZE, SIZE), 0.01).to(points))[0]
    x, y = (clip[:, :2] / clip[:, 3:]).unbind(-1)
    return (x + 1) * SIZE / 2, (1 - y) * SIZE / 2, clip[:, 3]


def off(cameras: Tensor) -> tuple[float, float]:
    """How far cameras are from the true ones, up to a common motion: pixels, root mean square and most."""
    twist = twist_between(poses(), cameras)
    shift = shift_of(twist - common_motion(twist, metrics(), poses(), torch.zeros(3)), metrics())
    return float(shift.square().mean().sqrt()), float(shift.max())


def align(given: Tensor, rgba: Tensor, masked: Tensor | None = None) -> Alignment:
    scene = scene_of(given, rgba)
    if masked is not None:
        scene = replace(scene, photos=replace(scene.photos, masked=masked))
    aligner = Aligner(surface(), scene, SETTINGS, shadows=False)
    return align_cameras(aligner, Alignment.of(given), lambda share: None)


def test_flow_is_how_projected_points_move() -> None:
    points = surface().vertices[::37]
    pose = poses()[1]
    columns, rows, depth = projected(points, pose)
    flow = flow_of_twist(columns, rows, depth, torch.tensor([FOCAL, FOCAL, SIZE / 2, SIZE / 2]))
    for unknown in range(6):
        twist = torch.zeros(1, 6)
        twist[0, unknown] = 2e-3
        after, before = (projected(points, moved(pose[None], sign * twist)[0]) for sign in (1, -1))
        expected = torch.stack((after[0] - before[0], after[1] - before[1]), -1) / 4e-3
        torch.testing.assert_close(flow[:, :, unknown], expected, atol=0.1, rtol=0.01)


def test_a_twist_is_found_again() -> None:
    twist = twists(1.0)
    torch.testing.assert_close(twist_between(poses(), moved(poses(), twist)), twist, atol=2e-3, rtol=0.05)


def test_a_motion_of_the_object_is_common_to_all_cameras() -> None:
    angle = torch.tensor([0.004, -0.007, 0.005])
    turn = torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3), -angle.expand(3, 3)))
    world = torch.eye(4)
    world[:3, :3], world[:3, 3] = turn, torch.tensor([0.02, 0.01, -0.015])
    cameras = world @ poses()
    cameras[:, :3, 3] *= 1.01  # and a growth
    twist = twist_between(poses(), cameras)
    assert float(shift_of(twist, metrics()).mean()) > 0.4
    own = twist - common_motion(twist, metrics(), poses(), torch.zeros(3))
    assert float(shift_of(own, metrics()).max()) < 0.02


def test_the_normal_equations_point_down_the_error(photographs: Tensor) -> None:
    given = moved(poses(), twists(0.5))
    aligner = Aligner(surface(), scene_of(given, photographs), SETTINGS, shadows=False)
    indices, none = torch.arange(VIEWS), torch.zeros(VIEWS, 3)
    systems = aligner.systems(given, none, indices)
    falls = systems.sides / (KNEE * SIZE * SIZE * 4)
    slopes = torch.zeros_like(falls)
    steps = [2e-3, 2e-3, 2e-2, 8e-3, 8e-3, 8e-3, 0.02, 0.02, 0.02]
    for unknown, size in enumerate(steps):
        step = torch.zeros(VIEWS, 9)
        step[:, unknown] = size
        after, before = (
            aligner.systems(moved(given, sign * step[:, :6]), sign * step[:, 6:], indices).errors for sign in (1, -1)
        )
        slopes[:, unknown] = (after - before) / (2 * size)
    for unknown in range(9):
        measured, said = -slopes[:, unknown], falls[:, unknown]
        assert float((measured - said).norm() / measured.norm()) < 0.35, unknown


@pytest.mark.parametrize("exposures", [0.0, 0.2])
def test_cameras_that_are_off_come_back(photographs: Tensor, exposures: float) -> None:
    given = moved(poses(), twists(1.2))
    before, _ = off(given)
    assert before > 1.0
    gains = 1 + exposures * torch.linspace(-1, 1, VIEWS)[torch.randperm(VIEWS)]
    rgba = photographs.clone()
    rgba[..., :3] = (rgba[..., :3] * gains[:, None, None, None] ** (1 / 2.2)).clamp(0, 255).byte()
    found = align(given, rgba)
    after, most = off(found.cam_to_world)
    assert after < 0.1 * before and most < 0.3, (before, after, most)
    assert found.moved and abs(found.shift_rms - before) < 0.2 * before
    turns = found.cam_to_world[:, :3, :3]
    torch.testing.assert_close(turns @ turns.transpose(1, 2), torch.eye(3).expand_as(turns), atol=1e-5, rtol=0)


def test_the_world_stays_where_it_was(photographs: Tensor) -> None:
    given = moved(poses(), twists(1.2))
    twist = twist_between(given, align(given, photographs).cam_to_world)
    common = common_motion(twist, metrics(), given, torch.zeros(3))
    assert float(shift_of(common, metrics()).max()) < 0.1


def test_cameras_that_are_right_stay_exactly(photographs: Tensor) -> None:
    given = moved(poses(), twists(0.1))
    found = align(given, photographs)
    assert torch.equal(found.cam_to_world, given) and not found.moved and found.shift_rms == 0


def test_a_second_time_goes_on_from_the_first(photographs: Tensor) -> None:
    given = moved(poses(), twists(2.0))
    aligner = Aligner(surface(), scene_of(given, photographs), SETTINGS, shadows=False)
    first = align_cameras(aligner, Alignment.of(given), lambda share: None, rounds=1)
    second = align_cameras(aligner, first, lambda share: None, rounds=2)
    assert torch.equal(second.given, given)
    assert off(second.cam_to_world)[0] < 0.3 * off(first.cam_to_world)[0] < 0.3 * off(given)[0]


def test_a_photograph_of_something_else_harms_nobody(photographs: Tensor) -> None:
    given = moved(poses(), twists(1.2))
    rgba = photographs.clone()
    rgba[4] = photographs[11].flip(0)
    found = align(given, rgba)
    rest = torch.arange(VIEWS) != 4
    twist = twist_between(poses(), found.cam_to_world)
    shift = shift_of(twist - common_motion(twist, metrics(), poses(), torch.zeros(3)), metrics())
    assert float(shift[rest].max()) < 0.6, shift
    aligner = Aligner(surface(), scene_of(given, rgba), SETTINGS, shadows=False)
    errors = [
        aligner.systems(cameras[4:5], torch.zeros(1, 3), torch.tensor([4])).errors
        for cameras in (given, found.cam_to_world)
    ]
    assert float(errors[1]) < 1.05 * float(errors[0])


def test_no_step_is_taken_that_makes_a_view_worse(photographs: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    given = moved(poses(), twists(1.2))
    step = camera_alignment._Systems.step
    monkeypatch.setattr(camera_alignment._Systems, "step", lambda self, damping: -step(self, damping))
    assert torch.equal(align(given, photographs).cam_to_world, given)


def test_views_without_masks_stay(photographs: Tensor) -> None:
    given = moved(poses(), twists(1.2))
    rgba, masked = photographs.clone(), torch.ones(VIEWS, dtype=torch.bool)
    rgba[6, ..., 3], masked[6] = 255, False
    found = align(given, rgba, masked)
    torch.testing.assert_close(found.cam_to_world[6], given[6])
    assert found.shift[6] == 0 and found.shift[5] > 0


def test_it_can_be_stopped_and_shadows_count(photographs: Tensor) -> None:
    class Material(Painted):
        def __call__(self, positions: Tensor) -> Any:
            return type("Split", (), {"base_color": self.values(positions)[:, :3]})

    state = surface()
    state.material = Material()  # type: ignore[assignment]
    given = moved(poses(), twists(1.2))
    shadowed, plain = (Aligner(state, scene_of(given, photographs), SETTINGS, shadows=some) for some in (True, False))
    looks = [aligner.look(given[:1], aligner.views.intrinsics[:1]).image for aligner in (shadowed, plain)]
    assert float((looks[0] - looks[1]).abs().max()) > 2e-3

    def tell(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise Stopped

    shares: list[float] = []
    with pytest.raises(Stopped):
        align_cameras(plain, Alignment.of(given), tell)
    assert shares == sorted(shares) and shares[0] < 0.1
