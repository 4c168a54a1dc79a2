# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows that the backend works here: compiles its kernels and reconstructs a ball in a few steps."""

from __future__ import annotations

import argparse
import json

from ..console import Console, bar, clock

HELP = "compile the kernels and run one small reconstruction"
NEEDS_BACKEND = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", action="store_true", help="progress and outcome as JSON lines on stdout")


def run(options: argparse.Namespace) -> int:
    """Run it; prints what it found."""
    from ..self_test import run_self_test

    console = Console()

    def report(text: str, share: float) -> None:
        if options.json:
            print(json.dumps({"text": text, "share": round(share, 4)}), flush=True)
        else:
            console.update("self-test", f"{bar(share)} {text}", text.partition(",")[0])

    outcome = run_self_test(options.device, report)
    console.done("self-test")
    if options.json:
        print(json.dumps({"outcome": outcome}), flush=True)
    else:
        print(f"self-test passed in {clock(outcome['seconds'])} on {outcome['device']}: {outcome['psnr']:.1f} dB")
    return 0
