# SPDX-License-Identifier: GPL-3.0-or-later
"""The panels that one watches: the job with its curve, the queue, the comparison."""

import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.operators import queue_jobs
from bl_ext.dev.unrender.operators.psnr_curve import MOST_VALUES, PsnrCurve
from bl_ext.dev.unrender.operators.queue_files import Entry
from bl_ext.dev.unrender.panels import compare_panel, curve_icon, job_panel, queue_panel

from tests.panels.test_sidebar import Recorder, draw, shown_job


def test_a_curve_keeps_its_shape_in_few_values() -> None:
    curve = PsnrCurve()
    for step in range(10_000):
        curve.add(step / 100)
    assert MOST_VALUES / 2 <= len(curve.values) < MOST_VALUES
    assert curve.values == sorted(curve.values)
    assert curve.values[0] < 1 and curve.values[-1] > 99
    np.testing.assert_allclose(np.diff(curve.values), np.diff(curve.values)[0])


def test_a_curve_is_drawn_from_its_least_to_its_greatest() -> None:
    picture = curve_icon.draw_curve([10.0, 20.0, 30.0], size=100)
    line = (picture == curve_icon.LINE).all(axis=-1)
    height = [np.flatnonzero(line[:, x]).mean() for x in range(curve_icon.MARGIN, 100 - curve_icon.MARGIN)]
    assert height == sorted(height)
    assert height[0] == pytest.approx(curve_icon.MARGIN, abs=2) and height[-1] == pytest.approx(93, abs=2)
    assert height[len(height) // 2] == pytest.approx(50, abs=2)
    assert line.any(axis=0)[curve_icon.MARGIN : -curve_icon.MARGIN].all()  # no gaps
    steep = (curve_icon.draw_curve([0.0, 0.0, 50.0, 50.0], size=100) == curve_icon.LINE).all(axis=-1)
    assert steep.any(axis=1)[curve_icon.MARGIN : -curve_icon.MARGIN].all()
    flat = (curve_icon.draw_curve([20.0, 20.05], size=100) == curve_icon.LINE).all(axis=-1)
    assert np.flatnonzero(flat.any(axis=1)).max() < 20  # noise is no mountain


def test_the_icon_changes_with_the_curve(tmp_path: Path) -> None:
    """Its pixels: in the background Blender gives icons no number."""

    def pixels(*values: float) -> np.ndarray:
        curve_icon.curve_icon(tmp_path, values)
        return np.array(curve_icon._icons[str(tmp_path)].image_pixels_float).reshape(curve_icon.SIZE, -1, 4)

    assert curve_icon.curve_icon(tmp_path, [20.0]) == 0
    np.testing.assert_allclose(pixels(20.0, 21.0), curve_icon.draw_curve([20.0, 21.0]), atol=0.01)
    np.testing.assert_allclose(pixels(20.0, 21.0, 20.5), curve_icon.draw_curve([20.0, 21.0, 20.5]), atol=0.01)
    curve_icon.unregister()
    curve_icon.unregister()
    assert pixels(20.0, 21.0).any()


def test_the_job_shows_its_curve_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_panel, "curve_icon", lambda job, values: len(values))
    watch = shown_job(tmp_path, status="running")
    watch._state.progress = {"stage": "shape", "step": 1, "steps": 2, "psnr": 24.0, "memory_bytes": 3_210_000_000}
    for psnr in (20.0, 22.0, 24.0):
        watch.curve.add(psnr)
    recorder = draw(job_panel.UNRENDER_PT_job)
    (icon,) = (values for name, values in recorder.shown if name == "template_icon")
    assert icon["icon_value"] == 3
    assert "3.2 GB" in recorder.texts()
    assert "show_preview" in [values["args"][1] for name, values in recorder.shown if name == "prop"]


def test_a_silent_job_is_mentioned(tmp_path: Path) -> None:
    watch = shown_job(tmp_path, status="running")
    assert not any("said nothing" in text for text in draw(job_panel.UNRENDER_PT_job).texts())
    watch._heard = time.monotonic() - 300
    assert "It has said nothing for 5 min." in draw(job_panel.UNRENDER_PT_job).texts()


def operators(recorder: Recorder) -> list[str]:
    return [values["args"][0] for name, values in recorder.shown if name == "operator"]


def test_a_job_that_does_not_answer_can_be_ended(tmp_path: Path) -> None:
    watch = shown_job(tmp_path, status="running", asked="stop")
    assert "unrender.end_job" not in operators(draw(job_panel.UNRENDER_PT_job))
    watch._asked_at = time.monotonic() - 60
    recorder = draw(job_panel.UNRENDER_PT_job)
    assert operators(recorder) == ["unrender.end_job"] and "It does not answer" in recorder.texts()
    watch.status, watch.asked, watch.said = "starting", None, "torch 17%"
    recorder = draw(job_panel.UNRENDER_PT_job)
    assert operators(recorder) == ["unrender.end_job"] and "torch 17%" in recorder.texts()


def test_what_died_with_a_result_offers_it(tmp_path: Path) -> None:
    shown_job(tmp_path, status="died")
    assert "Import Its Result" not in draw(job_panel.UNRENDER_PT_job).texts()
    (tmp_path / "statue" / "result").mkdir(parents=True)
    (tmp_path / "statue" / "result" / "asset.glb").write_bytes(b"")
    assert "Import Its Result" in draw(job_panel.UNRENDER_PT_job).texts()
    bpy.data.collections.new("statue")["unrender_result"] = str(tmp_path / "statue" / "result")
    assert "Import It Again" in draw(job_panel.UNRENDER_PT_job).texts()


def test_the_queue() -> None:
    assert not queue_panel.UNRENDER_PT_queue.poll(bpy.context)
    queue_jobs.WAITING[:] = [Entry("capture", "jobs/one", name="1"), Entry("capture", "jobs/two", name="2")]
    assert queue_panel.UNRENDER_PT_queue.poll(bpy.context)
    recorder = draw(queue_panel.UNRENDER_PT_queue)
    assert {"1  one", "2  two"} <= set(recorder.texts())
    assert operators(recorder) == ["unrender.queue_entry"] * 8
    queue_jobs.hold(True)
    assert operators(draw(queue_panel.UNRENDER_PT_queue))[0] == "unrender.start_queue"


def test_what_waits_says_so(tmp_path: Path) -> None:
    watch = shown_job(tmp_path, status="stopped")
    (watch.folder / "checkpoint").mkdir(parents=True)
    assert "Continue" in draw(job_panel.UNRENDER_PT_job).texts()
    queue_jobs.WAITING[:] = [Entry("capture", str(watch.folder), name="1")]
    texts = draw(job_panel.UNRENDER_PT_job).texts()
    assert "Waits in the queue" in texts and "Continue" not in texts


def test_the_comparison_says_what_is_missing() -> None:
    recorder = Recorder()
    context = SimpleNamespace(
        scene=bpy.context.scene, space_data=None, region_data=None, region=None, preferences=bpy.context.preferences
    )
    compare_panel.UNRENDER_PT_compare.draw(SimpleNamespace(layout=recorder), context)
    assert recorder.value("enabled") is False
    bpy.context.scene.unrender.wipe = True
    recorder = Recorder()
    compare_panel.UNRENDER_PT_compare.draw(SimpleNamespace(layout=recorder), context)
    assert any("Look through a camera" in text for text in recorder.texts())
