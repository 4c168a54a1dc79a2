# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer of finished assets, against rays cut with planes and spheres and shaded point by point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.appearance.bsdf import split_sum
from backend.appearance.color import linear_to_srgb
from backend.appearance.environment import latlong_to_cube, prefilter
from backend.appearance.pixel_filter import FILTER_WIDTH, filter_weights
from backend.export import renderer
from backend.export.asset import Asset
from backend.export.renderer import AssetRenderer
from tests.capture.builders import orbit_pose
from tests.export import shapes
from tests.kernels.scenes import sphere

CENTER = (0.3, -0.2, 0.5)


@pytest.fixture(scope="module", autouse=True)
def small_light() -> Iterator[None]:
    """Filtering a large cube for the first time takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renderer, "LIGHT_SIZE", 16)
        yield


def smooth_cube() -> Asset:
    """The cube with a texture without edges, so that a bilinear lookup by hand is the whole truth."""
    size = 48  # hardly a pixel of the pictures below is wider than a texel
    row, column = np.mgrid[:size, :size].astype(np.float32) / (size - 1)
    color = np.stack((0.1 + 0.8 * column, 0.1 + 0.8 * row, 0.5 + 0.3 * np.sin(6 * row + 4 * column)), -1)
    metallic = 0.5 + 0.5 * np.sin(5 * row)
    return replace(shapes.cube(size, CENTER), base_color=color.astype(np.float32), metallic=metallic)


def bilinear(texture: np.ndarray, u: float, v: float) -> np.ndarray:
    height, width = texture.shape[:2]
    x = np.clip(u * width - 0.5, 0, width - 1)
    y = np.clip((1 - v) * height - 0.5, 0, height - 1)
    x0, y0 = int(x), int(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    top = texture[y0, x0] * (1 - x + x0) + texture[y0, x1] * (x - x0)
    low = texture[y1, x0] * (1 - x + x0) + texture[y1, x1] * (x - x0)
    return top * (1 - y + y0) + low * (y - y0)


def cube_hit(origin: np.ndarray, direction: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Face that a ray meets first and where, from the faces' planes."""
    best: tuple[float, int, np.ndarray] | None = None
    for number, axes in enumerate(shapes.FACES):
        n, u, v = (np.array(axis, float) for axis in axes)
        facing = direction @ n
        if facing >= 0:
            continue
        t = ((n + CENTER - origin) @ n) / facing
        place = origin + t * direction
        inside = max(abs((place - CENTER) @ u), abs((place - CENTER) @ v)) <= 1
        if t > 0 and inside and (best is None or t < best[0]):
            best = t, number, place
    return None if best is None else (best[1], best[2])


def ray(pose: np.ndarray, camera: tuple[float, ...], row: float, column: float) -> np.ndarray:
    fx, fy, cx, cy = camera
    local = np.array([(column - cx) / fx, -(row - cy) / fy, -1.0])
    direction = pose[:3, :3] @ local
    return direction / np.linalg.norm(direction)


def render(asset: Asset, pose: np.ndarray, camera: tuple[float, ...], size: tuple[int, int], **more: float) -> dict:
    images = AssetRenderer(asset, "cpu", **more).render(
        torch.from_numpy(pose).float()[None], torch.tensor([camera]), size
    )
    return {name: image[0] for name, image in images.items()}


@pytest.mark.parametrize("angle", [0.4, 2.2])
def test_pixels_are_what_rays_and_the_shading_model_say(angle: float) -> None:
    asset = smooth_cube()
    pose = orbit_pose(angle, 5.0, 2.0)
    pose[:3, 3] += CENTER
    size, camera = (45, 61), (70.0, 66.0, 27.3, 24.9)
    images = render(asset, pose, camera, size, supersampling=1, filter_width=1.0)
    light = prefilter(latlong_to_cube(torch.from_numpy(asset.environment), renderer.LIGHT_SIZE))
    compared = 0
    for row in range(2, size[0], 6):
        for column in range(1, size[1], 6):
            direction = ray(pose, camera, row + 0.5, column + 0.5)
            around = [
                cube_hit(pose[:3, 3], ray(pose, camera, row + 0.5 + i, column + 0.5 + j))
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            hit = cube_hit(pose[:3, 3], direction)
            if all(other is None for other in around):
                assert float(images["alpha"][row, column]) == 0
                continue
            if hit is None or any(other is None or other[0] != hit[0] for other in around):
                continue  # an edge passes through or near
            face, place = hit
            n, u, v = (np.array(axis, float) for axis in shapes.FACES[face])
            s, t = ((place - CENTER) @ u + 1) / 2, ((place - CENTER) @ v + 1) / 2
            uv = (face % 3 / 3 + 0.02 + 0.28 * s, face // 3 / 2 + 0.02 + 0.44 * t)
            color, rough, metal = (bilinear(x, *uv) for x in (asset.base_color, asset.roughness, asset.metallic))
            normal = shapes.TILT[0] * u + shapes.TILT[1] * v + shapes.TILT[2] * n
            found = {name: image[row, column].numpy() for name, image in images.items()}
            assert found["alpha"] == pytest.approx(1)
            assert found["base_color"] == pytest.approx(color, abs=1e-2)
            assert found["roughness"] == pytest.approx(rough, abs=5e-3)
            assert found["metallic"] == pytest.approx(metal, abs=1e-2)
            assert found["normal"] == pytest.approx(normal, abs=2e-3)
            radiance = split_sum(
                *(torch.tensor(x, dtype=torch.float32).reshape(1, -1) for x in (color, rough, metal, normal)),
                torch.from_numpy(-direction).float()[None],
                light,
            )
            expected = linear_to_srgb(radiance.clamp(0, 1))[0].numpy()
            # The renderer weighs irradiance with the share of 8² directions a face, which is not exactly one.
            assert found["color"] == pytest.approx(expected, abs=0.02)
            compared += 1
    assert compared > 10


def test_a_cut_from_a_picture_is_the_picture_of_a_shifted_camera() -> None:
    asset, pose = shapes.cube(48), orbit_pose(0.7, 5.0, 2.0)
    whole = render(asset, pose, (60.0, 60.0, 32.0, 32.0), (64, 64))
    part = render(asset, pose, (60.0, 60.0, 21.0, 15.0), (37, 23))
    for name, image in part.items():
        assert image.shape[:2] == (37, 23)
        inner = (slice(2, -2), slice(2, -2))  # pixels blend with neighbors, which the cut lacks at its border
        torch.testing.assert_close(image[inner], whole[name][17:54, 11:34][inner], atol=2e-3, rtol=0, msg=name)


def area_of_cube(pose: np.ndarray, camera: tuple[float, ...]) -> float:
    """Area of the cube's image, in pixels: the shoelace formula on each face that looks at the camera."""
    fx, fy, cx, cy = camera
    total = 0.0
    for axes in shapes.FACES:
        n, u, v = (np.array(axis, float) for axis in axes)
        corners = np.array([n + i * u + j * v + CENTER for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        local = (corners - pose[:3, 3]) @ pose[:3, :3]
        x, y = fx * local[:, 0] / -local[:, 2] + cx, -fy * local[:, 1] / -local[:, 2] + cy
        area = float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        total += max(-area, 0.0)  # counter-clockwise with rows downwards is negative
    return total


@pytest.mark.parametrize("resolution", [(48, 48), (31, 53)])
def test_coverage_is_that_of_the_outline(resolution: tuple[int, int]) -> None:
    asset = shapes.cube(24, CENTER)
    height, width = resolution
    for angle in (0.2, 1.3, 3.9):
        pose = orbit_pose(angle, 6.0, 2.5)
        camera = (50.0, 50.0, width / 2 + 0.3, height / 2 - 0.2)
        alpha = render(asset, pose, camera, resolution)["alpha"]
        assert 0 <= float(alpha.min()) and float(alpha.max()) <= 1 + 1e-5
        exact = area_of_cube(pose, camera)
        assert exact > 200
        assert float(alpha.sum()) == pytest.approx(exact, rel=1e-2)
        # And pixel by pixel, against many rays through each, weighted by the filter.
        coarse = render(asset, pose, camera, resolution, supersampling=1)["alpha"]
        k = 4
        weights = filter_weights(k, FILTER_WIDTH)
        taps = [(0.5 + (tap - len(weights) // 2) / k, weight) for tap, weight in enumerate(weights)]
        inner = alpha[2:-2, 2:-2, 0].numpy()  # the filter looks past the border, where nothing is drawn
        rows, columns = 2 + np.stack(np.nonzero((inner > 0.01) & (inner < 0.99)))
        errors = []
        for row, column in list(zip(rows, columns))[::7]:
            truth = 0.0
            for y, weight_y in taps:
                for x, weight_x in taps:
                    hit = cube_hit(pose[:3, 3], ray(pose, camera, row + y, column + x))
                    truth += weight_y * weight_x * (hit is not None)
            errors.append(abs(float(alpha[row, column]) - truth))
        assert max(errors) < 0.2 and np.mean(errors) < 0.03
        assert float((alpha - coarse).abs().mean()) < 1e-2


def ball(textures: int = 8, **more: np.ndarray) -> Asset:
    """A gray sphere of radius one, the same everywhere."""
    vertices, triangles = (x.numpy() for x in sphere(24, 48))
    up = np.zeros((textures, textures, 3), np.float32)
    up[..., 2] = 1
    fields = {
        "vertices": vertices,
        "triangles": triangles,
        "normals": vertices.copy(),
        "uvs": np.tile(np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8]], np.float32), (len(triangles), 1, 1)),
        "base_color": np.full((textures, textures, 3), 0.5, np.float32),
        "roughness": np.full((textures, textures), 0.6, np.float32),
        "metallic": np.zeros((textures, textures), np.float32),
        "normal_map": up,
        "environment": shapes.compass(),
    }
    return Asset(**(fields | more))


def test_a_sphere_is_shaded_by_its_own_normals() -> None:
    asset, pose, camera = ball(), orbit_pose(1.1, 4.0, 1.0), (60.0, 60.0, 20.0, 20.0)
    images = render(asset, pose, camera, (40, 40))
    light = prefilter(latlong_to_cube(torch.from_numpy(asset.environment), renderer.LIGHT_SIZE))
    for row, column in ((20, 20), (14, 22), (26, 12), (20, 31)):
        direction, origin = ray(pose, camera, row + 0.5, column + 0.5), pose[:3, 3]
        b = direction @ origin
        place = origin + (-b - np.sqrt(b * b - origin @ origin + 1)) * direction
        values = [(0.5,) * 3, (0.6,), (0.0,), tuple(place), tuple(-direction)]
        radiance = split_sum(*(torch.tensor(x, dtype=torch.float32)[None] for x in values), light)
        expected = linear_to_srgb(radiance)[0].tolist()
        assert images["color"][row, column].tolist() == pytest.approx(expected, abs=0.02)
        assert images["normal"][row, column].tolist() == pytest.approx(list(place), abs=0.02)


def test_another_light_takes_the_place_of_the_own() -> None:
    renders = AssetRenderer(ball(), "cpu")
    pose, camera = torch.from_numpy(orbit_pose(1.1)).float()[None], torch.tensor([[40.0, 40.0, 16.0, 16.0]])
    own = renders.render(pose, camera, (32, 32))
    dark = renders.render(pose, camera, (32, 32), torch.zeros(16, 32, 3))
    again = renders.render(pose, camera, (32, 32), torch.from_numpy(shapes.compass()))
    inside = own["alpha"][..., 0] > 0.99
    assert float(own["color"][inside].min()) > 0.3 and float(dark["color"][inside].max()) < 0.02
    torch.testing.assert_close(again["color"], own["color"])
    torch.testing.assert_close(dark["alpha"], own["alpha"])


def test_color_is_straight_and_does_not_darken_at_the_outline() -> None:
    white = np.ones((16, 32, 3), np.float32) * 0.4
    images = render(ball(environment=white), orbit_pose(0.3), (40.0, 40.0, 16.0, 16.0), (32, 32))
    edge = (images["alpha"][..., 0] > 0.05) & (images["alpha"][..., 0] < 0.9)
    inside = images["alpha"][..., 0] > 0.99
    assert int(edge.sum()) > 20
    assert float(images["color"][edge].min()) > float(images["color"][inside].min()) - 0.02


def test_several_views_are_those_views_one_by_one() -> None:
    renders = AssetRenderer(shapes.cube(24), "cpu")
    poses = torch.from_numpy(np.stack([orbit_pose(a, 6.0) for a in (0.0, 1.0, 2.0)])).float()
    cameras = torch.tensor([[40.0, 40.0, 16.0, 10.0], [30.0, 33.0, 12.0, 12.0], [50.0, 50.0, 15.0, 9.0]])
    together = renders.render(poses, cameras, (21, 33))
    for i in range(3):
        alone = renders.render(poses[i : i + 1], cameras[i : i + 1], (21, 33))
        for name in alone:
            torch.testing.assert_close(together[name][i], alone[name][0], atol=1e-5, rtol=1e-5)


def test_looking_away_gives_an_empty_finite_picture() -> None:
    pose = orbit_pose(0.0)
    pose[:3, :3] = pose[:3, :3] @ np.diag([-1.0, 1.0, -1.0])  # turned about its up
    images = render(ball(), pose, (40.0, 40.0, 16.0, 16.0), (32, 32))
    assert not images["alpha"].any()
    assert all(bool(torch.isfinite(image).all()) for image in images.values())


def test_the_floor_under_a_box_is_in_its_shadow() -> None:
    up, side = np.array([0.0, 0.0, 1.0]), 3.0
    box = shapes.cube(24, (0.0, 0.0, 1.3))
    steps = np.linspace(-side, side, 25, dtype=np.float32)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    floor = np.stack((x, y, np.zeros_like(x)), -1).reshape(-1, 3)
    k = (np.arange(24)[:, None] * 25 + np.arange(24)).reshape(-1)
    faces = np.concatenate((np.c_[k, k + 1, k + 26], np.c_[k, k + 26, k + 25]))
    count = len(box.vertices)
    asset = replace(
        box,
        vertices=np.concatenate((box.vertices, floor)),
        normals=np.concatenate((box.normals, np.tile(up, (len(floor), 1)).astype(np.float32))),
        triangles=np.concatenate((box.triangles, faces + count)).astype(np.int32),
        uvs=np.concatenate((box.uvs, np.tile(box.uvs[:1] * 0 + 0.1, (len(faces), 1, 1)))).astype(np.float32),
        base_color=np.full_like(box.base_color, 0.5),
        roughness=np.ones_like(box.roughness),
        metallic=np.zeros_like(box.metallic),
        normal_map=np.tile(up.astype(np.float32), (*box.roughness.shape, 1)),
        environment=np.ones((16, 32, 3), np.float32) * 0.5,
    )
    pose, camera = orbit_pose(0.0, 7.0, 1.5), (60.0, 60.0, 30.0, 30.0)
    color = render(asset, pose, camera, (60, 60))["color"]

    def at(point: tuple[float, float, float]) -> float:
        local = pose[:3, :3].T @ (np.array(point) - pose[:3, 3])
        column, row = 60 * local[0] / -local[2] + 30, 30 - 60 * local[1] / -local[2]
        return float(color[int(row), int(column), 0])

    assert at((0.6, 0.0, 0.0)) < 0.75 * at((2.5, 1.9, 0.0))
