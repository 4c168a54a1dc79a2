# SPDX-License-Identifier: GPL-3.0-or-later
"""What the self-test compiles and photographs; that it runs as a whole is tests/test_install.py's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from backend import geometry, kernels, self_test
from backend.capture import read_capture
from backend.capture.loader import load_photos

ROOT = Path(__file__).resolve().parents[1]


def test_every_kernel_of_the_backend_is_compiled() -> None:
    found = set(self_test._modules(kernels) + self_test._modules(geometry))
    sources = [path for path in (ROOT / "backend").rglob("*.py") if "\n@wp.kernel" in path.read_text(encoding="utf-8")]
    assert found == {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources}


def test_the_ball_is_a_capture_that_one_color_does_not_explain(tmp_path: Path) -> None:
    capture = read_capture(self_test.write_ball(tmp_path / "ball"))
    assert len(capture.views) == self_test.VIEWS and not capture.warnings
    for view in capture.views:
        assert view.forward @ view.center == pytest.approx(-np.linalg.norm(view.center))  # it looks at the origin
    rgba = load_photos(capture.views).rgba.numpy() / 255
    color, alpha = rgba[..., :3], rgba[..., 3:]
    for mask, view in zip(alpha, capture.views):
        squared = view.center @ view.center
        assert mask.sum() == pytest.approx(np.pi * self_test.SIZE**2 / (squared - 1), rel=0.05)  # a ball of radius 1
    flat = (color * alpha).sum((0, 1, 2)) / alpha.sum()
    error = ((flat - color) * alpha) ** 2  # on white, as everywhere else
    assert -10 * np.log10(error.mean()) < self_test.LEAST_PSNR - 2
