# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job needs to go on after it was stopped: tensors as safetensors, the rest as JSON, never pickle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError

DESCRIPTION = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """State before `step` of `stage`; `fingerprint` says of which job."""

    stage: str
    fingerprint: dict[str, Any]
    seconds: dict[str, float]
    tensors: dict[str, Tensor]
    step: int = 0

    def save(self, folder: Path) -> None:
        """Write into `folder`; a crash leaves the previous checkpoint or none, never half of one.

        Raises:
            UserError: the disk is full.
        """
        folder.mkdir(parents=True, exist_ok=True)
        description = folder / DESCRIPTION
        # Each has its own name: the description, replaced in one go, always refers to the tensors that belong to it.
        name = f"{self.stage}_{self.step:06}.safetensors"
        new = folder / (name + ".part")
        try:
            save_file({k: v.detach().contiguous().cpu() for k, v in self.tensors.items()}, new)
        except SafetensorError as error:  # its own type, also for what the system refuses
            new.unlink(missing_ok=True)
            raise UserError(
                what="the checkpoint cannot be written",
                where=str(folder),
                found=str(error),
                remedy="Make room on the disk.",
            ) from error
        os.replace(new, folder / name)
        content = {
            "stage": self.stage,
            "step": self.step,
            "fingerprint": self.fingerprint,
            "seconds": self.seconds,
            "tensors": name,
        }
        part = description.with_suffix(".part")
        part.write_text(json.dumps(content, indent=2), encoding="utf-8")
        os.replace(part, description)
        for old in folder.glob("*.safetensors"):
            if old.name != name:
                old.unlink()

    @staticmethod
    def load(folder: Path, device: torch.device) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            UserError: it is damaged.
        """
        try:
            content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            tensors = load_file(folder / content["tensors"], device=str(device))
            return Checkpoint(content["stage"], content["fingerprint"], content["seconds"], tensors, content["step"])
        except Exception as error:  # safetensors has its own exception type for a damaged file
            raise UserError(
                what="the checkpoint cannot be read",
                where=str(folder),
                found=f"{type(error).__name__}: {error}",
                remedy="Start again without --resume.",
            ) from error
