# SPDX-License-Identifier: GPL-3.0-or-later
"""The preferences in every state of the backend, drawn into a layout that writes down what it is asked for."""

import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest
from bl_ext.dev.unrender.operators import install_state
from bl_ext.dev.unrender.operators.install_files import State
from bl_ext.dev.unrender.panels import install
from bl_ext.dev.unrender.panels.preferences import UNRENDER_AP_preferences

from tests.panels.test_sidebar import Recorder

GPU = State(
    status="ready", device="NVIDIA GeForce RTX 4090", memory=25_757_220_864, folder=Path("e"), size=1_471_000_000
)
touched: list[str] = []
_listening = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    here = threading.current_thread() is threading.main_thread()
    if _listening and here and event in ("open", "os.scandir", "os.listdir", "subprocess.Popen", "glob.glob"):
        touched.append(f"{event} {arguments[:1]}")


sys.addaudithook(_audit)


def draw(state: State, monkeypatch: pytest.MonkeyPatch, failure: str = "") -> Recorder:
    monkeypatch.setattr(install_state, "state", lambda: state)
    monkeypatch.setattr(install_state, "failure", lambda: failure)
    return draw_now()


def draw_now() -> Recorder:
    recorder = Recorder()
    context = SimpleNamespace(
        region=SimpleNamespace(width=600),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0), addons=bpy.context.preferences.addons),
    )
    UNRENDER_AP_preferences.draw(SimpleNamespace(layout=recorder), context)
    return recorder


def buttons(recorder: Recorder) -> list[str]:
    return [values["args"][0].removeprefix("unrender.") for name, values in recorder.shown if name == "operator"]


def test_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = draw(GPU, monkeypatch)
    assert "Backend: ready, NVIDIA GeForce RTX 4090, 24 GB" in recorder.texts()
    assert "1.5 GB on the disk, in e" in recorder.texts()
    assert buttons(recorder) == ["self_test", "repair", "remove_backend", "open_install_log"]
    assert "Backend: ready, without a GPU" in draw(replace(GPU, device="cpu"), monkeypatch).texts()


def test_missing_and_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = draw(State(status="missing", reason="the disk is full. Make room."), monkeypatch)
    assert {"Backend: not installed", "the disk is full. Make room."} <= set(recorder.texts())
    assert any("Allow Online Access" in text for text in recorder.texts())
    assert buttons(recorder) == ["install", "open_install_log"]
    bpy.context.preferences.system.use_online_access = True
    try:
        assert not any("Online" in text for text in draw(State(status="missing"), monkeypatch).texts())
    finally:
        bpy.context.preferences.system.use_online_access = False


def test_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(status="installing", fraction=0.42, text="downloading 2 of 18 torch", seconds_left=130.0)
    recorder = draw(state, monkeypatch)
    (bar,) = (values for name, values in recorder.shown if name == "progress")
    assert (bar["factor"], bar["text"]) == (0.42, "42%, 2 min left")
    assert "Downloading 2 of 18 torch" in recorder.texts()
    assert buttons(recorder) == ["stop_install", "open_install_log"]
    assert "Backend: installing" in recorder.texts()
    assert "Backend: testing" in draw(replace(state, testing=True), monkeypatch).texts()


def test_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = draw(replace(GPU, status="broken", reason="torch is missing"), monkeypatch)
    assert {"Backend: broken", "torch is missing"} <= set(recorder.texts())
    assert "repair" in buttons(recorder)


def test_own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = draw(State(status="untested", own_python=True, folder=Path("/usr/bin/python")), monkeypatch)
    assert "/usr/bin/python" in recorder.texts()
    assert buttons(recorder) == ["self_test", "open_install_log"]


def test_other_installations(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = draw(replace(GPU, others=(Path("a"), Path("b")), others_size=3_000_000_000), monkeypatch)
    assert "Other installations: 2, 3.0 GB" in recorder.texts() and "Remove Others" in recorder.texts()


@pytest.mark.parametrize("status", list(install.STATUS_TEXT))
def test_every_state_can_be_drawn(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    recorder = draw(replace(GPU, status=status, note="note", size=None), monkeypatch, failure="failed")
    assert install.STATUS_TEXT[status] in recorder.texts()[0]
    assert [values["args"][1] for name, values in recorder.shown if name == "prop"] == [
        "jobs_folder",
        "home",
        "wheels",
        "torch_index",
        "python",
    ]


def test_drawing_looks_at_no_file_and_runs_nothing() -> None:
    global _listening
    draw_now()
    _listening = True
    try:
        draw_now()
    finally:
        _listening = False
    assert touched == []
