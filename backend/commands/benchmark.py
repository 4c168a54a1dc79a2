# SPDX-License-Identifier: GPL-3.0-or-later
"""The performance and quality table on the standard captures."""

from __future__ import annotations

import argparse

from ..errors import UserError

HELP = "performance and quality on the standard captures (not in this version)"
NEEDS_BACKEND = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: none."""


def run(options: argparse.Namespace) -> int:
    """Refuse."""
    raise UserError(
        "this version has no benchmark yet",
        where="benchmark",
        remedy="Use reconstruct and evaluate; report.json holds the timings.",
    )
