# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation with a fake renderer, passed in explicitly: it replays pictures that the test made, so that every figure
is known beforehand. The real renderer is not tested here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from backend.capture.model import Camera, Capture, View
from backend.errors import UserError
from backend.export import evaluate as evaluation
from backend.export.asset import Asset
from backend.export.evaluate import evaluate
from backend.export.result import write_result
from backend.export.summary import summarize
from backend.export.textures import write_exr

from .shapes import compass, cube

SIZE = 40
GRAY = 0.25
"""Linear base color of the pictured disc."""


def disc() -> np.ndarray:
    """Coverage [SIZE, SIZE, 1] of a disc, hard-edged so that 8 bits hold it exactly."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    return (np.hypot(x, y) < SIZE / 3).astype(np.float32)[..., None]


def picture(index: int) -> np.ndarray:
    """What view `index` shows: a disc whose red grows with the view, its green from left to right."""
    color = np.zeros((SIZE, SIZE, 3), np.float32)
    color[..., 0] = (50 + 40 * index) / 255
    color[..., 1] = np.round(np.linspace(0, 255, SIZE)) / 255
    return color


class FakeRenderer:
    """Returns the true picture plus `offset`, times `gain` of the light over the asset's own; knows a view by x."""

    def __init__(self, asset: Asset, offset: float = 0.0, material: float = 1.0) -> None:
        self.asset, self.offset, self.material = asset, offset, material
        self.calls: list[tuple[int, int]] = []

    def render(
        self,
        cam_to_world: Tensor,
        intrinsics: Tensor,
        resolution: tuple[int, int],
        environment: Tensor | None = None,
    ) -> Mapping[str, Tensor]:
        assert cam_to_world.shape == (1, 4, 4) and intrinsics.tolist() == [[60, 60, SIZE / 2, SIZE / 2]]
        assert environment is not None
        self.calls.append(resolution)
        gain = float(environment.mean()) / float(self.asset.environment.mean())
        color = np.clip(picture(int(cam_to_world[0, 0, 3])) * gain + self.offset, 0, 1)
        alpha = disc()
        one = np.ones_like(alpha)
        images = {
            "color": color,
            "alpha": alpha,
            "base_color": np.repeat(one, 3, axis=-1) * GRAY * self.material,
            "roughness": one * 0.5 * self.material,
            "metallic": one * self.material,
            "normal": np.concatenate([0 * one, 0 * one, one], axis=-1),
        }
        return {key: torch.as_tensor(image.astype(np.float32))[None] for key, image in images.items()}


def make(offset: float = 0.0, material: float = 1.0) -> Callable[[Asset, str], FakeRenderer]:
    return lambda asset, _: FakeRenderer(asset, offset, material)


def save(path: Path, color: np.ndarray, alpha: np.ndarray | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = color if alpha is None else np.concatenate([color, alpha], axis=-1)
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)


def make_capture(root: Path, masks: bool = True, exposure: float | None = None) -> Capture:
    views = []
    for index in range(4):
        image = root / "test" / f"r_{index}.png"
        save(image, picture(index), disc() if masks else None)
        pose = np.eye(4)
        pose[0, 3] = index
        camera = Camera(SIZE, SIZE, 60.0, 60.0, SIZE / 2, SIZE / 2)
        views.append(View(f"test/r_{index}", image, camera, pose, split="test", exposure=exposure))
    return Capture(root, tuple(views), "transforms.json")


def add_truth(root: Path) -> None:
    """What synthetic captures carry: passes, a relit photograph (twice the light) with its light, the mesh."""
    alpha = disc()
    for index in range(4):
        gray = np.concatenate([np.repeat(alpha * GRAY, 3, axis=-1), alpha], axis=-1).astype(np.float16)
        channels = {f"ViewLayer.base_color.{c}": np.ascontiguousarray(gray[..., i]) for i, c in enumerate("RGBA")}
        channels |= {"ViewLayer.roughness.X": (alpha[..., 0] * 0.5).astype(np.float16)}
        channels |= {"ViewLayer.metallic.X": alpha[..., 0].astype(np.float16)}
        channels |= {f"ViewLayer.Normal.{c}": (alpha[..., 0] * (c == "Z")).astype(np.float16) for c in "XYZ"}
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        (root / "test_gt").mkdir(exist_ok=True)
        with OpenEXR.File(header, channels) as file:
            file.write(str(root / "test_gt" / f"r_{index}.exr"))
    for index in range(2):
        save(root / "relight_dim" / f"r_{index}.png", picture(index) * 0.5, alpha)
    (root / "relight_lost").mkdir()
    (root.parent / "hdri").mkdir()
    write_exr(root.parent / "hdri" / "dim.exr", compass() * np.float32(0.5))
    asset = cube()
    trimesh.Trimesh(asset.vertices, asset.triangles, process=False).export(root / "mesh.ply")


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return write_result(tmp_path / "job" / "result", cube(), [], {})


def test_the_true_picture_scores_full(tmp_path: Path, result: Path):
    capture = make_capture(tmp_path / "capture")
    found = evaluate(result, capture, make_renderer=make())
    assert found["views"] == 4 and found["split"] == "test" and found["triangles"] == 12
    assert found["psnr"] > 90 and found["ssim"] > 0.9999 and found["silhouette_iou"] == 1
    assert [row["name"] for row in found["per_view"]] == [view.name for view in capture.views]
    assert "base_color_psnr" not in found and "chamfer_pct_diag" not in found and "relight" not in found
    json.dumps(found, allow_nan=False)
    assert evaluate(result.parent, capture, make_renderer=make())["psnr"] == found["psnr"]  # the job folder will do


def test_an_offset_costs_what_it_must(tmp_path: Path, result: Path):
    found = evaluate(result, make_capture(tmp_path / "capture"), make_renderer=make(offset=0.1))
    image = picture(0)
    error = ((np.clip(image + 0.1, 0, 1) - image) ** 2 * disc()).mean()
    assert found["per_view"][0]["psnr"] == pytest.approx(-10 * np.log10(error), abs=0.01)


def test_flat_color_is_the_best_one(tmp_path: Path, result: Path):
    found = evaluate(result, make_capture(tmp_path / "capture"), make_renderer=make())
    alpha = disc()
    images = np.stack([picture(index) for index in range(4)])
    inside = images[:, alpha[..., 0] > 0]
    flat = inside.mean(axis=(0, 1))
    expected = [-10 * np.log10((((image - flat) * alpha) ** 2).mean()) for image in images]
    assert [row["flat_color_psnr"] for row in found["per_view"]] == pytest.approx(expected, abs=1e-3)
    assert found["flat_color_psnr"] == pytest.approx(np.mean(expected), abs=1e-3)


def test_views_are_chosen_evenly(tmp_path: Path, result: Path):
    seen: list[tuple[int, int]] = []
    capture = make_capture(tmp_path / "capture")
    found = evaluate(result, capture, max_views=2, make_renderer=make(), progress=lambda *done: seen.append(done))
    assert [row["name"] for row in found["per_view"]] == ["test/r_0", "test/r_2"] and seen == [(1, 2), (2, 2)]


def test_an_empty_split_is_named(tmp_path: Path, result: Path):
    with pytest.raises(UserError, match=r"no views of the split 'val'; expected one of test \(4\)"):
        evaluate(result, make_capture(tmp_path / "capture"), "val", make_renderer=make())


def test_photographs_without_masks(tmp_path: Path, result: Path):
    found = evaluate(result, make_capture(tmp_path / "capture", masks=False), make_renderer=make())
    assert found["psnr"] > 90 and found["silhouette_iou"] is None and found["flat_color_psnr"] is None
    assert any("no masks" in note for note in found["notes"])


def test_exposure_brightens_the_light(tmp_path: Path, result: Path):
    plain = evaluate(result, make_capture(tmp_path / "a"), make_renderer=make())
    brighter = evaluate(result, make_capture(tmp_path / "b", exposure=1.0), make_renderer=make())
    assert brighter["psnr"] < plain["psnr"] - 20


def test_the_light_has_the_mean_exposure_of_the_photographs_it_was_found_with(tmp_path: Path, result: Path):
    capture = make_capture(tmp_path, exposure=1.5)
    trained = [replace(view, name=f"train/{k}", split="train", exposure=k) for k, view in enumerate(capture.views)]
    found = evaluate(result, replace(capture, views=(*capture.views, *trained)), make_renderer=make())
    assert found["psnr"] > 90  # 1.5 stops is the mean of 0, 1, 2 and 3


def test_truth_is_measured(tmp_path: Path, result: Path):
    capture = make_capture(tmp_path / "capture")
    add_truth(capture.root)
    found = evaluate(result, capture, make_renderer=make(material=0.9))
    assert found["normal_deg"] == pytest.approx(0) and found["metallic_iou"] == 1
    assert found["base_color_psnr"] < 35 and found["base_color_psnr_aligned"] > 60
    assert found["roughness_rmse"] == pytest.approx(0.05, abs=1e-3)
    assert found["metallic_rmse"] == pytest.approx(0.1, abs=1e-3)
    assert found["chamfer_pct_diag"] < 0.5  # what two samplings of one surface differ by
    assert found["relight"]["dim"]["views"] == 2 and found["relight_psnr"] > 45
    assert found["relight_psnr_aligned"] > 45
    assert any("relight_lost" in note for note in found["notes"])
    elsewhere = evaluate(result, capture, hdris=tmp_path, make_renderer=make())
    assert "relight" not in elsewhere


def test_the_light_is_compared_where_it_is_known(tmp_path: Path, result: Path):
    capture = make_capture(tmp_path / "capture")
    add_truth(capture.root)
    assert "environment_error" not in evaluate(result, capture, make_renderer=make())
    (capture.root / "meta.json").write_text(json.dumps({"hdri": "dim.exr", "strength": 0.6}))
    assert evaluate(result, capture, make_renderer=make())["environment_error"] == pytest.approx(0, abs=1e-6)
    write_exr(tmp_path / "hdri" / "dim.exr", np.roll(compass(), 3, axis=1))
    assert evaluate(result, capture, make_renderer=make())["environment_error"] > 0.05
    (capture.root / "meta.json").write_text(json.dumps({"hdri": "gone.exr"}))
    found = evaluate(result, capture, make_renderer=make())
    assert "environment_error" not in found and any("gone.exr" in note for note in found["notes"])
    (capture.root / "meta.json").write_text("[]")
    assert "environment_error" not in evaluate(result, capture, make_renderer=make())


def test_alignment_takes_a_factor_out(tmp_path: Path, result: Path):
    capture = make_capture(tmp_path / "capture")
    add_truth(capture.root)
    write_exr(tmp_path / "hdri" / "dim.exr", compass() * np.float32(0.4))
    relit = evaluate(result, capture, make_renderer=make())["relight"]["dim"]
    assert relit["psnr_aligned"] > relit["psnr"] + 3


def test_comparisons_show_photo_render_and_difference(tmp_path: Path, result: Path):
    folder = tmp_path / "comparisons"
    evaluate(result, make_capture(tmp_path / "capture"), comparisons=folder, make_renderer=make(offset=0.2))
    assert sorted(path.name for path in folder.iterdir()) == [f"test_r_{index}.png" for index in range(4)]
    image = np.asarray(Image.open(folder / "test_r_0.png")).astype(int)
    assert image.shape == (SIZE, 3 * SIZE, 3)
    photo, render, difference = np.split(image, 3, axis=1)
    assert np.abs(np.abs(render - photo) - difference).max() <= 1 and difference[SIZE // 2, SIZE // 2, 0] == 51
    assert (photo[0, 0] == 255).all() and (difference[0, 0] == 0).all()


def test_undistorted_borders_are_left_out():
    white = np.ones((2, 2, 3), np.float32)
    valid = np.array([[[True], [False]], [[True], [True]]])
    view = View("a", Path("a.png"), Camera(2, 2, 1, 1, 1, 1), np.eye(4))
    photo = evaluation.Photo(view, np.concatenate([0 * white, white[..., :1]], axis=-1), True, valid)
    truth, image = evaluation.on_white_pair(photo, {"color": 0.5 * white, "alpha": white[..., :1]})
    assert truth[0, 1].tolist() == image[0, 1].tolist() == [1, 1, 1] and truth[0, 0].tolist() == [0, 0, 0]


def test_summary_shows_the_held_out_views(tmp_path: Path):
    capture = make_capture(tmp_path)
    renderers: list[FakeRenderer] = []

    def keep(asset: Asset, _: str) -> FakeRenderer:
        renderers.append(FakeRenderer(asset))
        return renderers[-1]

    sheet, psnr = summarize(cube(), capture.views, "Cube", [("Steps", "100")], most=3, make_renderer=keep)
    assert len(renderers[0].calls) == 3 and 1500 < sheet.width <= 2400
    assert len(psnr) == 3 and psnr.keys() <= {view.name for view in capture.views if view.split == "test"}
    assert all(value > 5 for value in psnr.values())
    assert summarize(cube(), [], make_renderer=keep).sheet.width > 0
