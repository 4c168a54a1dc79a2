# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar's panels, drawn into a layout that writes down what it is asked for.

Blender draws nothing in the background, so a recorder takes the layout's place; that the real layout accepts the same
calls is for the tests in a window.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest
from bl_ext.dev.unrender.operators import follow
from bl_ext.dev.unrender.operators.job_text import LONGEST_TEXT
from bl_ext.dev.unrender.operators.jobs import JobWatch
from bl_ext.dev.unrender.panels import classes, job_panel, properties, sidebar


class Recorder:
    """Stands for bpy.types.UILayout; refuses what the real one does not have."""

    def __init__(self, shown: list[tuple[str, dict[str, Any]]] | None = None) -> None:
        self.__dict__["shown"] = [] if shown is None else shown

    def __setattr__(self, name: str, value: object) -> None:
        assert name in bpy.types.UILayout.bl_rna.properties, name
        self.shown.append((name, {"value": value}))

    def __getattr__(self, name: str) -> Any:
        function = bpy.types.UILayout.bl_rna.functions.get(name)
        assert function is not None or name == "operator", name

        def call(*positional: object, **named: Any) -> Any:
            parameters = set(function.parameters.keys()) if function else set()
            assert set(named) <= parameters, (name, set(named) - parameters)
            if "icon" in named:
                assert named["icon"] in bpy.types.UILayout.bl_rna.functions["prop"].parameters["icon"].enum_items
            self.shown.append((name, {"args": positional, **named}))
            if name in ("row", "column", "box"):
                return Recorder(self.shown)
            return SimpleNamespace() if name == "operator" else None

        return call

    def texts(self) -> list[str]:
        return [values["text"] for _, values in self.shown if "text" in values]

    def value(self, name: str) -> object:
        return next(values["value"] for key, values in self.shown if key == name)


def draw(panel: type[bpy.types.Panel]) -> Recorder:
    recorder = Recorder()
    system = SimpleNamespace(ui_scale=1.0)  # without a window Blender's own is 0
    context = SimpleNamespace(
        scene=bpy.context.scene, region=SimpleNamespace(width=300), preferences=SimpleNamespace(system=system)
    )
    panel.draw(SimpleNamespace(layout=recorder), context)
    return recorder


def shown_job(tmp_path: Path, **changes: Any) -> JobWatch:
    """A job that the scene shows, in whatever state."""
    watch = JobWatch(tmp_path / "statue")
    for key, value in changes.items():
        setattr(watch, key, value)
    follow.WATCHES[watch.folder] = watch
    bpy.context.scene.unrender.job_folder = str(watch.folder)
    return watch


def test_without_a_job() -> None:
    assert "No reconstruction yet" in draw(job_panel.UNRENDER_PT_job).texts()
    shown = draw(sidebar.UNRENDER_PT_reconstruct).shown
    assert [values["args"][1] for name, values in shown if name == "prop"] == [
        "capture",
        "preset",
        "start_mesh",
        "output",
        "import_when_finished",
    ]
    assert draw(sidebar.UNRENDER_PT_import).texts() == ["Import Result…"]


def test_a_running_job(tmp_path: Path) -> None:
    watch = shown_job(tmp_path, status="running")
    watch._state.progress = {"stage": "surface", "step": 30, "steps": 120, "psnr": 28.345, "seconds_left": 250}
    recorder = draw(job_panel.UNRENDER_PT_job)
    (bar,) = (values for name, values in recorder.shown if name == "progress")
    assert (bar["factor"], bar["text"]) == (0.25, "surface 25%")
    assert {"statue", "28.3 dB", "4 min left", "Pause", "Finish Now", "Stop"} <= set(recorder.texts())
    assert recorder.value("enabled") is True


def test_a_request_without_answer_disables_the_buttons(tmp_path: Path) -> None:
    shown_job(tmp_path, status="running", asked="stop")
    recorder = draw(job_panel.UNRENDER_PT_job)
    assert "Stopping…" in recorder.texts() and recorder.value("enabled") is False


def test_a_paused_job_can_resume(tmp_path: Path) -> None:
    watch = shown_job(tmp_path, status="paused")
    watch._state.progress = {"stage": "shape", "step": 1, "steps": 2}
    texts = draw(job_panel.UNRENDER_PT_job).texts()
    assert "Resume" in texts and "Pause" not in texts and "Paused · shape 50%" in texts


def test_a_finished_job_offers_its_result(tmp_path: Path) -> None:
    shown_job(tmp_path, status="finished")
    texts = draw(job_panel.UNRENDER_PT_job).texts()
    assert "Finished" in texts and "Import Its Result" in texts


def test_a_failure_is_wrapped_to_the_sidebar(tmp_path: Path) -> None:
    shown_job(tmp_path, status="failed", message="word " * (LONGEST_TEXT // 5))
    texts = draw(job_panel.UNRENDER_PT_job).texts()
    assert "Failed" in texts
    assert all(len(text) <= 50 for text in texts) and sum(text.count("word") for text in texts) > 40
    assert "Continue" not in texts
    (tmp_path / "statue" / "checkpoint").mkdir(parents=True)
    assert "Continue" in draw(job_panel.UNRENDER_PT_job).texts()


@pytest.mark.parametrize("status", list(job_panel.STATUS_TEXT))
def test_every_state_can_be_drawn(tmp_path: Path, status: str) -> None:
    shown_job(tmp_path, status=status)
    assert draw(job_panel.UNRENDER_PT_job).texts()


def test_everything_has_a_tooltip() -> None:
    """A description for every property and operator; none ends with a full stop, as Blender's own."""
    described = [(properties.UNRENDER_PG_scene.bl_rna, None)]
    described += [(cls.bl_rna, None) for cls in classes if issubclass(cls, bpy.types.AddonPreferences)]
    described += [(getattr(bpy.ops.unrender, name).get_rna_type(), name) for name in dir(bpy.ops.unrender)]
    for rna, operator in described:
        if operator:
            assert len(rna.description) > 20, operator
            assert not rna.description.endswith("."), operator
        for prop in rna.properties:
            own = prop.identifier not in ("rna_type", "name", "bl_idname") and not prop.identifier.startswith("filter_")
            if own:
                assert prop.description, f"{rna.identifier}.{prop.identifier}"
                assert not prop.description.endswith("."), f"{rna.identifier}.{prop.identifier}"
