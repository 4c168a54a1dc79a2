# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Blender extension: a zip, and a static repository (index.json) that Blender can update from."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import Console

HELP = "build the Blender extension and a static repository"
NEEDS_BACKEND = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--out", type=Path, metavar="DIR", required=True)


def run(options: argparse.Namespace) -> int:
    """Build; prints the files made."""
    from ..packaging import package

    for path in package(options.out, Console()):
        print(path)
    return 0
