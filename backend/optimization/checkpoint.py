# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job needs to go on after it was stopped: tensors as safetensors, the rest as JSON, never pickle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError

DESCRIPTION = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """State at the start of `stage`; `fingerprint` says of which job."""

    stage: str
    fingerprint: dict[str, Any]
    seconds: dict[str, float]
    tensors: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write into `folder`; a crash leaves the previous checkpoint or none, never half of one."""
        folder.mkdir(parents=True, exist_ok=True)
        description = folder / DESCRIPTION
        name = f"{self.stage}.safetensors"
        save_file({k: v.detach().contiguous().cpu() for k, v in self.tensors.items()}, folder / (name + ".part"))
        os.replace(folder / (name + ".part"), folder / name)
        content = {"stage": self.stage, "fingerprint": self.fingerprint, "seconds": self.seconds, "tensors": name}
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
            return Checkpoint(content["stage"], content["fingerprint"], content["seconds"], tensors)
        except Exception as error:  # safetensors has its own exception type for a damaged file
            raise UserError(
                what="the checkpoint cannot be read",
                where=str(folder),
                found=f"{type(error).__name__}: {error}",
                remedy="Start again without --resume.",
            ) from error
