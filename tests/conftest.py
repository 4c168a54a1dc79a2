# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the `device` fixture, the `cuda` marker, and which tests this interpreter can run at all.

Backend tests need torch and run in the backend environment; tests/operators and tests/panels need bpy and run in the
Blender environment. Neither is imported here, so that this file loads in both.
"""

from __future__ import annotations

import importlib.util

import pytest

BLENDER_TESTS = ["operators", "panels"]
BACKEND_TESTS = ["appearance", "capture", "export", "geometry", "kernels", "optimization"]

HAS_BPY = importlib.util.find_spec("bpy") is not None
HAS_TORCH = importlib.util.find_spec("torch") is not None

collect_ignore = ([] if HAS_BPY else BLENDER_TESTS) + ([] if HAS_TORCH else BACKEND_TESTS)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device that kernels run on: "cpu", and "cuda" where there is one."""
    return str(request.param)


def _why_no_cuda() -> str:
    """The reason why CUDA tests cannot run here, or an empty string."""
    if not HAS_TORCH:
        return "needs CUDA: torch is not installed here"
    import torch

    if torch.version.cuda is None:
        return f"needs CUDA: torch {torch.__version__} is a CPU build"
    if not torch.cuda.is_available():
        return "needs CUDA: no NVIDIA GPU found"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("cuda")]
    reason = _why_no_cuda() if marked else ""
    if reason:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))
