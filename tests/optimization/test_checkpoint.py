# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: read back as written, whole or not at all, and refused in one line when damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from backend.errors import UserError
from backend.optimization import checkpoint
from backend.optimization.checkpoint import Checkpoint
from tests.capture.builders import one_line

CPU = torch.device("cpu")


def sample(stage: str = "surface", value: float = 1.5) -> Checkpoint:
    tensors = {
        "vertices": torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * value,
        "triangles": torch.arange(12, dtype=torch.int32).view(4, 3),
        "material.table": torch.rand(5, 2, requires_grad=True),
        "turned": torch.arange(6.0).view(2, 3).T,  # not contiguous
        "empty": torch.zeros(0, 3),
    }
    return Checkpoint(stage, {"settings": {"preset": "draft", "seed": 3}, "views": "abc"}, {"shape": 1.25}, tensors)


def assert_same(found: Checkpoint, wanted: Checkpoint) -> None:
    assert (found.stage, found.fingerprint, found.seconds) == (wanted.stage, wanted.fingerprint, wanted.seconds)
    assert found.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and torch.equal(found.tensors[name], tensor.detach())


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved = sample()
    saved.save(tmp_path / "job" / "checkpoint")
    assert_same(Checkpoint.load(tmp_path / "job" / "checkpoint", CPU), saved)


def test_the_next_checkpoint_takes_the_place_of_the_last(tmp_path: Path) -> None:
    for value, stage in ((1.0, "surface"), (2.0, "surface"), (3.0, "texture")):
        later = sample(stage, value)
        later.save(tmp_path)
        assert_same(Checkpoint.load(tmp_path, CPU), later)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 and not list(tmp_path.glob("*.part"))


def test_there_is_no_pickle_in_it(tmp_path: Path) -> None:
    sample().save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert isinstance(json.loads((tmp_path / checkpoint.DESCRIPTION).read_text()), dict)


@pytest.mark.parametrize("call", [0, 1])
def test_a_crash_while_writing_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    first, second = sample("surface"), sample("texture", 9.0)
    first.save(tmp_path)
    calls: list[Any] = []
    replace = os.replace

    def crash(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == call + 1:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            second.save(tmp_path)
    assert_same(Checkpoint.load(tmp_path, CPU), first)
    second.save(tmp_path)  # what the crash left is in nobody's way
    assert_same(Checkpoint.load(tmp_path, CPU), second)


def test_a_full_disk_is_the_user_s_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sample("surface")
    first.save(tmp_path)

    def full(*arguments: Any, **options: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(UserError) as caught:
            sample("texture").save(tmp_path)
    one_line(caught.value, str(tmp_path), "space")
    assert_same(Checkpoint.load(tmp_path, CPU), first)


def damage_tensors(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-20])


def damage_header(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(b"\xff" * 64)


def remove_tensors(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.unlink()


def rewrite(text: str) -> Any:
    return lambda folder: (folder / checkpoint.DESCRIPTION).write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        damage_tensors,
        damage_header,
        remove_tensors,
        rewrite(""),
        rewrite("{"),
        rewrite("[]"),
        rewrite("{}"),
        rewrite('{"stage": "surface"}'),
        lambda folder: (folder / checkpoint.DESCRIPTION).unlink(),
        lambda folder: (folder / checkpoint.DESCRIPTION).write_bytes(b"\x80\x81"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, damage: Any) -> None:
    sample().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError) as caught:
        Checkpoint.load(tmp_path, CPU)
    one_line(caught.value, str(tmp_path), "--resume")


def test_no_checkpoint_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Checkpoint.load(tmp_path / "none", CPU)
    one_line(caught.value, "none")
