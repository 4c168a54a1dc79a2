# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the backend's Python environment, or repairs it, and says which device it will use."""

from __future__ import annotations

import argparse
import os

from .. import environment
from ..console import Console
from ..errors import UserError

HELP = "make or repair the managed environment"
NEEDS_BACKEND = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="cuda: fail unless it works")
    parser.add_argument(
        "--torch-index",
        metavar="URL",
        default="",
        help="package index for torch alone, for a CPU-only build, say (default: $UNRENDER_TORCH_INDEX)",
    )


def run(options: argparse.Namespace) -> int:
    """Make, check, and print what there is."""
    console = Console()
    if python := environment.named_interpreter(environment.BACKEND):
        print(f"{python} (from {environment.BACKEND.variable}; left as it is)")
        return 0
    backend = environment.Environment(environment.BACKEND)
    environment.ensure_backend(console, verify=bool(backend.stamp()), torch_index=options.torch_index)
    found = backend.check()
    if options.device == "cuda" and not found["cuda"]:
        build = f"torch for CUDA {found['cuda_build']}" if found["cuda_build"] else "a CPU build of torch"
        raise UserError(
            "CUDA does not work here",
            where="--device cuda",
            expected="an NVIDIA GPU with a current driver and a CUDA build of torch",
            found=f"{build}{'' if os.path.exists('/dev/nvidiactl') else ', and no NVIDIA driver'}",
            remedy="Install the driver, or give --torch-index an index with CUDA builds.",
        )
    device = "cpu" if options.device == "cpu" else found["device"]
    print(f"{backend.interpreter}: torch {found['torch']}, warp {found['warp']}, {device}")
    return 0
