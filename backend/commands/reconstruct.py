# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstructs a capture: geometry, material and light, into a job folder whose result/ holds the asset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..console import Console, JobPrinter
from ..errors import UserError
from ..job import Job

HELP = "reconstruct a capture into a job folder"
NEEDS_BACKEND = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("capture", type=Path, metavar="CAPTURE", help="a folder, a capture.json or a transforms.json")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="job folder; DIR/result is the asset")
    parser.add_argument("--preset", choices=("draft", "standard", "high"), default="standard")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR")
    parser.add_argument(
        "--start-mesh",
        type=Path,
        metavar="FILE",
        help="refine this mesh (PLY, OBJ or STL, in the capture's frame) instead of the masks' visual hull",
    )
    parser.add_argument("--rasterizer", choices=("warp", "nvdiffrast"))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--max-size", type=int, metavar="PIXELS", help="reduce photographs to this longer side")
    parser.add_argument("--holdout", type=int, metavar="N", help="keep every Nth view for evaluation")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override any setting (repeatable)", dest="sets"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="SWITCH[,SWITCH...]",
        help="turn parts of the method off, as backend/optimization/switches.py names them",
    )
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop when standard input closes (default: outlive the parent)"
    )


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names, key -> value."""
    from ..optimization.switches import settings_without, switch_names

    found: dict[str, Any] = {}
    for key in ("rasterizer", "seed", "max_size", "holdout"):
        if getattr(options, key) is not None:
            found[key] = getattr(options, key)
    # What is turned off stays off, whatever the settings say.
    return found | named_settings(options.sets) | settings_without(switch_names(options.without))


def named_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """The settings of `--set KEY=VALUE`. Raises UserError for what is no such pair."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError("not a setting", where="--set", expected="KEY=VALUE", found=pair)
        try:
            found[key.replace("-", "_")] = json.loads(value)
        except ValueError:
            found[key.replace("-", "_")] = value  # a bare word
    return found


def run(options: argparse.Namespace) -> int:
    """Run the job, with progress on stderr; prints the result folder."""
    from ..capture import read_capture
    from ..optimization.settings import Settings

    chosen = overrides(options)
    settings = Settings.from_preset(options.preset, options.device, chosen)
    # Read once before anything is written: a capture that cannot be used must not leave a job folder behind.
    read_capture(options.capture, holdout=settings.holdout)
    start_mesh = None
    if options.start_mesh is not None:
        from ..optimization.start_mesh import StartMesh

        start_mesh = StartMesh.read(options.start_mesh)
    if settings.device == "cuda" or settings.rasterizer != "warp":
        from ..optimization.pipeline import check_machine

        check_machine(settings)
    noted = {
        "capture": str(options.capture.absolute()),
        "preset": options.preset,
        "device": options.device,
        "overrides": chosen,
        "start_mesh": str(options.start_mesh.absolute()) if options.start_mesh else "",
    }
    job = Job(options.out, noted, resume=options.resume)
    job.listeners.append(JobPrinter(Console()))
    if options.stop_with_parent:
        job.stop_when_stdin_closes()
    with job:
        job.report("prepare", 0, 100)
        # Torch and the kernels take seconds to load: the folder is claimed, or refused, before that.
        from ..optimization.pipeline import reconstruct

        result = reconstruct(options.capture, job, settings, start_mesh)
    print(result)
    return 0
