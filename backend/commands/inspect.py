# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what a capture holds: views, cameras, masks, resolution, what is missing, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..console import Console, bar

HELP = "say what was found in a capture, and what is wrong with it"
NEEDS_BACKEND = True
EXIT_UNUSABLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("capture", type=Path, metavar="CAPTURE", help="a folder, a capture.json or a transforms.json")
    parser.add_argument("--holdout", type=int, default=0, metavar="N", help="keep every Nth view for evaluation")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Print the findings; exit code 2 if something is wrong with the capture."""
    from ..capture.inspect import inspect

    console = Console()

    def progress(done: int, views: int) -> None:
        console.update("inspect", f"{bar(done / max(views, 1))} {done}/{views} photographs")

    found = inspect(options.capture, options.holdout, progress if console.terminal else None)
    console.done("inspect")
    print(json.dumps(found.to_json(), indent=2) if options.json else found.render_text())
    return EXIT_UNUSABLE if found.wrong else 0
