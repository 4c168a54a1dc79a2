# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that fit into a panel."""

from bl_ext.dev.unrender.panels.wrapped_text import draw_text, wrapped

from tests.panels.test_sidebar import Recorder


def test_words_stay_whole_and_paths_break_after_a_separator() -> None:
    text = "the photograph is missing; found /media/photographs/helmet/train/r_023.png"
    lines = wrapped(text, 30)
    assert lines[0] == "the photograph is missing;"
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= 30 for line in lines) and "r_023.png" in lines[-1]
    assert wrapped("x" * 45, 20) == ["x" * 20, "x" * 20, "x" * 5]
    assert wrapped("C:\\photographs\\of a\\statue.png", 20) == ["C:\\photographs\\of", "a\\statue.png"]


def test_an_icon_takes_room() -> None:
    counts = []
    for icon in ("NONE", "INFO"):
        recorder = Recorder()
        draw_text(recorder, "a " * 60, 292, icon=icon)
        counts.append(max(map(len, recorder.texts())))
    assert counts[0] > counts[1] and counts[1] * 6.5 < 292 - 75
