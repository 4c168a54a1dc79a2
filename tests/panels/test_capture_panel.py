# SPDX-License-Identifier: GPL-3.0-or-later
"""The Capture panel, drawn into the recorder that the sidebar's tests have."""

from pathlib import Path
from typing import Any

import bpy
import pytest
from bl_ext.dev.unrender.operators import preflight
from bl_ext.dev.unrender.panels import capture_panel, classes

from tests.operators import collect_scenes as scenes
from tests.panels.test_sidebar import draw


def properties(panel: type[bpy.types.Panel]) -> list[str]:
    return [values["args"][1] for name, values in draw(panel).shown if name == "prop"]


def test_it_stands_above_reconstruct() -> None:
    names = [cls.__name__ for cls in classes]
    assert names.index("UNRENDER_PT_capture") < names.index("UNRENDER_PT_reconstruct")
    assert capture_panel.UNRENDER_PT_capture.bl_category == "Unrender"


def test_what_the_source_needs_is_shown() -> None:
    panel = capture_panel.UNRENDER_PT_capture
    common = ["masks", "region", "holdout", "folder"]
    assert properties(panel) == ["source", "selected_only", "frame_step", *common]
    bpy.context.scene.unrender.collect.source = "FOLDER"
    assert properties(panel) == ["source", "images", *common]
    assert "Open Capture…" in draw(panel).texts()


@pytest.mark.parametrize(("layout", "own"), [("DOME", ["lowest", "highest"]), ("TURNTABLE", ["elevation"])])
def test_the_render_settings(layout: str, own: list[str]) -> None:
    bpy.context.scene.unrender.render_capture.layout = layout
    expected = ["layout", "views", *own, "size", "engine", "samples", "holdout"]
    assert properties(capture_panel.UNRENDER_PT_render_capture) == expected


def test_what_was_found(tmp_path: Path) -> None:
    scene: Any = bpy.context.scene
    scenes.ring(tmp_path / "photos", 4)
    (tmp_path / "photos/photo_2.png").unlink()
    scenes.mask(tmp_path / "masks/photo_0.png")
    scene.unrender.collect.masks = str(tmp_path / "masks")
    bpy.ops.unrender.check_capture()
    recorder = draw(capture_panel.UNRENDER_PT_capture)
    assert all(len(text) < 50 for text in recorder.texts())
    text = " ".join(recorder.texts())
    assert "3 views of 48 x 32" in text and "Camera 2: the photograph is missing" in text
    assert "No mask in 2 views: photo_1, photo_3" in text and "photo_0" in recorder.texts()
    icons = [values.get("icon") for name, values in recorder.shown if name == "label"]
    assert "CANCEL" in icons and "ERROR" in icons and "DOT" in icons
    assert "shown" in [values["args"][1] for name, values in recorder.shown if name == "prop"]


def test_a_region_that_moved_since_collecting(tmp_path: Path) -> None:
    scene: Any = bpy.context.scene
    scenes.ring(tmp_path / "photos", 4)
    scene.unrender.collect.folder = str(tmp_path / "capture")
    bpy.ops.unrender.collect()
    said = "The region is not"
    assert said not in " ".join(draw(capture_panel.UNRENDER_PT_capture).texts())
    bpy.ops.unrender.add_region()
    bpy.context.view_layer.update()
    assert said in " ".join(draw(capture_panel.UNRENDER_PT_capture).texts())
    bpy.ops.unrender.collect()
    assert said not in " ".join(draw(capture_panel.UNRENDER_PT_capture).texts())


def test_a_view_that_is_not_written_yet() -> None:
    scene: Any = bpy.context.scene
    report = preflight.Report("1 view", (), (preflight.Picture("shot_0001", None, None),))
    preflight._show(scene, report)
    assert "shot_0001: written when collecting" in draw(capture_panel.UNRENDER_PT_capture).texts()
