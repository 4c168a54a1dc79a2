# SPDX-License-Identifier: GPL-3.0-or-later
"""Structure from motion on plain photographs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError

HELP = "structure from motion on plain photographs (not in this version)"
NEEDS_BACKEND = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--out", type=Path, metavar="CAPTURE", required=True)


def run(options: argparse.Namespace) -> int:
    """Refuse."""
    raise UserError(
        "this version does not solve cameras yet",
        where="solve",
        remedy="Solve them with Blender's tracker or another program, and give their transforms.json to reconstruct.",
    )
