# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the backend's packages come from: which build of torch suits the machine, and folders of downloaded wheels.

Standard library only. The general registry has torch for CUDA on Linux and for the CPU on Windows and macOS; what else
there is stands in PyTorch's own index, one part for each build.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .provision import clean_environ, normalized

PYTORCH_INDEX = "https://download.pytorch.org/whl"
GENERAL = ""  # stands for the index that pip itself is set to

# CUDA 13 runs from this driver on, and on Turing (2018) or newer; the older build takes the rest.
CUDA_13_DRIVER, CUDA_13_CAPABILITY = 580, 7.5
CUDA_12_DRIVER = 528

# pip's settings that name places of packages: whoever made them knows where torch comes from.
PIP_PLACES = ("index-url", "extra-index-url", "find-links")


@dataclass(frozen=True)
class Source:
    """Where packages come from."""

    torch_index: str = ""  # the index of torch alone; empty: what suits the machine
    wheels: Path | None = None  # a folder of downloaded wheels, in place of any index
    offline: bool = False  # nothing may be downloaded
    gpu: bool = True  # whether an NVIDIA GPU shall be used if there is one

    @staticmethod
    def from_environ(environ: Mapping[str, str] = os.environ) -> Source:
        """What $UNRENDER_TORCH_INDEX, $UNRENDER_WHEELS and $UNRENDER_OFFLINE say."""
        wheels = environ.get("UNRENDER_WHEELS", "")
        return Source(
            torch_index=environ.get("UNRENDER_TORCH_INDEX", ""),
            wheels=Path(wheels).expanduser().absolute() if wheels else None,
            offline=environ.get("UNRENDER_OFFLINE", "") not in ("", "0"),
        )

    def arguments(self) -> list[str]:
        """What pip is told."""
        return ["--no-index", "--find-links", str(self.wheels)] if self.wheels else []

    def check(self, pins: Mapping[str, str], python: str) -> None:
        """Raises UserError where it cannot have these packages: nothing was started yet."""
        if self.wheels is None:
            if self.offline:
                raise UserError(
                    "packages are missing and nothing may be downloaded",
                    where="online access",
                    remedy="Allow online access (in Blender: Preferences, System, Network), or name a folder of "
                    "downloaded wheels.",
                )
            return
        if not self.wheels.is_dir():
            raise UserError("no such folder", where=str(self.wheels), remedy="Choose another wheels folder.")
        if missing := missing_wheels(self.wheels, pins):
            raise UserError(
                "wheels are missing",
                where=str(self.wheels),
                expected=f"{len(pins)} packages as backend/requirements.txt names them",
                found=f"none of {_some(missing)}",
                remedy=f"On a machine with a network, same system and Python {python}: "
                "pip download -r requirements.txt -d FOLDER",
            )


def missing_wheels(folder: Path, pins: Mapping[str, str]) -> list[str]:
    """The pinned packages, name==version, of which no wheel lies in a folder."""
    found = set()
    for path in folder.glob("*.whl"):
        name, version, *_ = (path.name.removesuffix(".whl") + "-").split("-")
        found.add((normalized(name), version.partition("+")[0]))
    return [f"{name}=={version}" for name, version in pins.items() if (name, version) not in found]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU, as its driver describes it."""

    name: str
    driver: str
    capability: float

    @property
    def cuda(self) -> str:
        """The name of the build of torch that it can run, "" if its driver is too old for any."""
        major = int(re.match(r"\d*", self.driver)[0] or 0)  # type: ignore[index]  # matches anything
        if major >= CUDA_13_DRIVER and self.capability >= CUDA_13_CAPABILITY:
            return "cu130"
        return "cu126" if major >= CUDA_12_DRIVER else ""


def find_gpu() -> Gpu | None:
    """The first NVIDIA GPU of the machine, None without one or without its driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        name, driver, capability = (part.strip() for part in listing.splitlines()[0].rsplit(",", 2))
        return Gpu(name, driver, float(capability))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def torch_indexes(gpu: Gpu | None, platform: str = sys.platform) -> tuple[str, ...]:
    """The indexes to ask for torch, best first."""
    build = gpu.cuda if gpu else ""
    if platform == "darwin":
        return (GENERAL,)
    if platform == "win32":
        return tuple(f"{PYTORCH_INDEX}/{tag}" for tag in dict.fromkeys((build, "cu126"))) if build else (GENERAL,)
    if build == "cu130":
        return (GENERAL,)
    # The general registry's build works here too, on the CPU, at the cost of gigabytes.
    return (f"{PYTORCH_INDEX}/{build or 'cpu'}", GENERAL)


def why_no_cuda(gpu: Gpu, build: str | None) -> str:
    """What to do about a GPU that torch does not use, in one line."""
    if not gpu.cuda:
        return f"{gpu.name} is not used: its driver {gpu.driver} is too old. Update the driver, then repair"
    if not build:
        return f"{gpu.name} is not used: this is a CPU build of torch. Set the PyTorch index, then repair"
    return f"{gpu.name} is not used: CUDA {build} does not start with driver {gpu.driver}. Update the driver"


def pip_has_places(python: Path) -> bool:
    """Whether pip is set up to look elsewhere than in the public registry."""
    command = [str(python), "-m", "pip", "config", "list"]
    try:
        listing = subprocess.run(
            command, capture_output=True, text=True, env=clean_environ(), timeout=60, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return names_places(listing.splitlines())


def names_places(lines: Iterable[str]) -> bool:
    """Whether lines of `pip config list` name places of packages."""
    keys = {line.partition("=")[0].rpartition(".")[2].strip(" :").replace("_", "-") for line in lines}
    return not keys.isdisjoint(PIP_PLACES)
