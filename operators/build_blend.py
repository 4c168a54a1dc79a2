# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a .blend of a result with the `bpy` module or with Blender itself, through the very code of the add-on.

    PYTHON operators/build_blend.py RESULT --blend OUT.blend [--capture CAPTURE] [--render DIR --views 4 --samples 32]
    blender -b --factory-startup --python operators/build_blend.py -- RESULT --blend OUT.blend …

Prints one line of JSON; exit code 0, or 2 with one line on stderr that says what was wrong.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy

PACKAGE = "unrender"


def load_extension() -> ModuleType:
    """The repository as a package, whatever its folder is called: its modules import each other relatively."""
    root = Path(__file__).resolve().parents[1]
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{PACKAGE}.operators.demo_scene")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="build_blend.py", description="Writes a .blend of a result folder.")
    parser.add_argument("result", type=Path, help="the result folder, or the job folder around it")
    parser.add_argument("--capture", type=Path, help="the folder of the photographs, shown behind the cameras")
    parser.add_argument("--blend", type=Path, required=True, help="the .blend to write")
    parser.add_argument("--external", action="store_true", help="textures beside the .blend instead of inside")
    parser.add_argument("--render", type=Path, metavar="DIR", help="also render held-out views there, as PNG")
    parser.add_argument("--views", type=int, default=4, help="how many, spread over the held-out ones; 0: all")
    parser.add_argument("--samples", type=int, default=32, help="Cycles samples for each pixel")
    options = parser.parse_args(arguments)
    # Blender writes to the process's standard output: send that to stderr, and keep the real one for our line.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    demo_scene = load_extension()
    began = time.perf_counter()
    try:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        report: dict[str, Any] = demo_scene.save_scene(
            options.result.resolve(),
            options.blend.resolve(),
            options.capture.resolve() if options.capture else None,
            external=options.external,
        )
        if options.render:
            report["renders"] = demo_scene.render_views(options.render.resolve(), options.views, options.samples)
    except demo_scene.UserError as error:
        print(error, file=sys.stderr)
        return 2
    report["seconds"] = round(time.perf_counter() - began, 2)
    print(json.dumps(report), file=answer, flush=True)
    return 0


if __name__ == "__main__":
    # Blender keeps its own options before '--'; the module is a plain Python program.
    own = sys.argv[sys.argv.index("--") + 1 :] if bpy.app.binary_path and "--" in sys.argv else sys.argv[1:]
    sys.exit(main(own))
