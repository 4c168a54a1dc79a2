# SPDX-License-Identifier: GPL-3.0-or-later
"""What the environments consist of: pinned packages, and a small program that shows whether they work.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .provision import normalized

HERE = Path(__file__).resolve().parent
# The release of bpy on the registry for each Python that has one.
BLENDER_PYTHONS = ((3, 11), (3, 13))

BACKEND_CHECK = """
import json, OpenEXR, numpy, PIL.Image, safetensors.torch, scipy.sparse, torch, trimesh, warp
x = torch.ones(3, requires_grad=True)
(x * x).sum().backward()
assert x.grad.tolist() == [2.0, 2.0, 2.0]
warp.config.quiet = True
warp.init()
cuda = torch.cuda.is_available() and warp.is_cuda_available()
print("CHECK " + json.dumps({
    "torch": torch.__version__, "warp": warp.config.version, "cuda": cuda, "cuda_build": torch.version.cuda,
    "device": torch.cuda.get_device_name() if cuda else "cpu",
    "memory": torch.cuda.get_device_properties(0).total_memory if cuda else 0}))
"""

BLENDER_CHECK = """
import json, bpy
bpy.data.meshes.new("check").from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
print("CHECK " + json.dumps({"blender": bpy.app.version_string}))
"""


@dataclass(frozen=True)
class Recipe:
    """What an environment consists of."""

    name: str  # the kind, and the beginning of the folder's name
    requirements: Path
    test_requirements: Path
    check: str  # a program that prints "CHECK {...}" when all is well
    modules: tuple[str, ...]  # what must be importable in an interpreter that the user names himself
    variable: str  # the environment variable by which he names it
    room: float  # bytes that it takes at least


BACKEND = Recipe(
    name="backend",
    requirements=HERE / "requirements.txt",
    test_requirements=HERE / "requirements-test.txt",
    check=BACKEND_CHECK,
    modules=("torch", "warp", "numpy", "PIL", "safetensors", "scipy", "trimesh"),
    variable="UNRENDER_PYTHON",
    room=2.5e9,
)


def blender_recipe(version: tuple[int, int]) -> Recipe:
    """The recipe of Blender as a module for a Python version out of BLENDER_PYTHONS."""
    assert version in BLENDER_PYTHONS
    return Recipe(
        name="blender",
        requirements=HERE / f"requirements-blender-{version[0]}.{version[1]}.txt",
        test_requirements=HERE / "requirements-blender-test.txt",
        check=BLENDER_CHECK,
        modules=("bpy",),
        variable="UNRENDER_BLENDER_PYTHON",
        room=1.6e9,
    )


def pins(requirements: Path) -> dict[str, str]:
    """The packages of a requirements file, name -> exact version."""
    found = {}
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if line := line.partition("#")[0].strip():
            name, separator, version = line.partition("==")
            assert separator, f"{requirements.name}: not pinned: {line}"
            found[normalized(name)] = version.strip()
    return found
