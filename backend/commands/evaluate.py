# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a result with the photographs of a capture, and with ground truth where there is some; JSON on stdout."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..console import Console, bar
from ..errors import UserError
from ..job_folder import JobFolder, read_settings
from ..processes import write_atomically

HELP = "measure a result against its photographs and ground truth"
NEEDS_BACKEND = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="a result folder, or a job folder with one")
    parser.add_argument("capture", type=Path, metavar="CAPTURE", help="a folder, a capture.json or a transforms.json")
    parser.add_argument("--split", default="test", help="which views (default: test)")
    parser.add_argument("--holdout", type=int, metavar="N", help="every Nth view is a test view (default: as the job)")
    parser.add_argument("--max-views", type=int, metavar="N", help="measure at most this many views, evenly chosen")
    parser.add_argument("--hdris", type=Path, metavar="DIR", help="the lights of the capture's relight_* folders")
    parser.add_argument("--comparisons", type=Path, metavar="DIR", help="save photograph, render and difference there")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON to a file as well")


def result_folder(path: Path) -> Path:
    """The result folder that a path names: itself, or the one inside a job folder."""
    for folder in (path, JobFolder(path).result):
        if (folder / "report.json").is_file():
            return folder
    raise UserError(
        "no result here",
        where=str(path),
        expected="a folder with report.json, as reconstruct makes it",
        found="a folder without it" if path.is_dir() else "no such folder",
    )


def job_holdout(path: Path) -> int:
    """Which views the job that made a result kept for evaluation: every Nth, or 0."""
    for folder in (path, path.absolute().parent):
        overrides: Any = read_settings(folder).get("overrides")
        if isinstance(overrides, dict) and isinstance(overrides.get("holdout"), int):
            return int(overrides["holdout"])
    return 0


def run(options: argparse.Namespace) -> int:
    """Print the figures."""
    result = result_folder(options.result)

    import torch

    from ..capture import read_capture
    from ..export.evaluate import evaluate

    capture = read_capture(options.capture, job_holdout(options.result) if options.holdout is None else options.holdout)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise UserError("CUDA does not work here", where="--device cuda", remedy="Use --device cpu.")
    console = Console()

    def progress(done: int, views: int) -> None:
        console.update("evaluate", f"{bar(done / max(views, 1))} {done}/{views} views", "views")

    found = evaluate(
        result,
        capture,
        options.split,
        max_views=options.max_views,
        hdris=options.hdris,
        device=device,
        comparisons=options.comparisons,
        progress=progress,
    )
    console.done("evaluate")
    text = json.dumps(found, indent=2)
    if options.out:
        write_atomically(options.out, text + "\n")
    print(text)
    return 0
