# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build of torch suits which machine, and what else is known of where packages come from."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from backend import packages, provision
from backend.console import Console
from backend.environment import Environment, Recipe
from backend.errors import UserError
from backend.packages import GENERAL, PYTORCH_INDEX, Gpu, Source

NEW = Gpu("NVIDIA GeForce RTX 5090", "581.29", 12.0)
OLD_DRIVER = Gpu("NVIDIA GeForce RTX 3060", "552.44", 8.6)
OLD_CARD = Gpu("NVIDIA GeForce GTX 1080", "581.29", 6.1)
ANCIENT = Gpu("NVIDIA GeForce GTX 780", "391.35", 3.5)


@pytest.mark.parametrize(
    ("gpu", "platform", "indexes"),
    [
        (NEW, "win32", ("cu130", "cu126")),  # the general registry has no CUDA build for Windows
        (OLD_DRIVER, "win32", ("cu126",)),
        (OLD_CARD, "win32", ("cu126",)),
        (ANCIENT, "win32", (GENERAL,)),
        (None, "win32", (GENERAL,)),
        (NEW, "linux", (GENERAL,)),
        (OLD_DRIVER, "linux", ("cu126", GENERAL)),
        (None, "linux", ("cpu", GENERAL)),  # the general registry's build would cost gigabytes
        (None, "darwin", (GENERAL,)),
    ],
)
def test_the_build_that_suits_the_machine(gpu: Gpu | None, platform: str, indexes: tuple[str, ...]) -> None:
    expected = tuple(f"{PYTORCH_INDEX}/{name}" if name else GENERAL for name in indexes)
    assert packages.torch_indexes(gpu, platform) == expected


@pytest.mark.skipif(os.name != "posix", reason="uses a shell script in place of the driver's program")
@pytest.mark.parametrize(
    ("prints", "found"),
    [
        ("NVIDIA RTX A6000, 580.95.05, 8.6", Gpu("NVIDIA RTX A6000", "580.95.05", 8.6)),
        ("NVIDIA-SMI has failed because it could not communicate with the driver", None),
        ("", None),
    ],
)
def test_the_gpu_is_what_its_driver_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, found: Gpu | None
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{prints}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.find_gpu() == found
    program.unlink()
    assert packages.find_gpu() is None


def test_why_a_gpu_is_not_used() -> None:
    assert "driver 391.35 is too old" in packages.why_no_cuda(ANCIENT, None)
    assert "CPU build" in packages.why_no_cuda(NEW, None)
    assert "CUDA 13.0 does not start with driver 552.44" in packages.why_no_cuda(OLD_DRIVER, "13.0")


def test_whoever_set_pip_up_knows_where_torch_is() -> None:
    assert packages.names_places(["global.timeout='60'", "global.extra-index-url='https://host/simple'"])
    assert packages.names_places([":env:.find-links='/wheels'"])
    assert not packages.names_places(["global.timeout='60'", ":env:.cert='/index-url'"])


def test_variables_say_where_packages_come_from(tmp_path: Path) -> None:
    assert Source.from_environ({}) == Source()
    variables = {"UNRENDER_WHEELS": str(tmp_path), "UNRENDER_TORCH_INDEX": "https://host/cu1", "UNRENDER_OFFLINE": "1"}
    source = Source.from_environ(variables)
    assert source == Source("https://host/cu1", tmp_path, offline=True)
    source.check({}, "3.11")  # a folder of wheels needs no network


def test_missing_wheels_are_named(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cu130-cp311-cp311-win_amd64.whl").touch()
    (tmp_path / "typing_extensions-4.16.0-py3-none-any.whl").touch()
    (tmp_path / "numpy-2.0.0-cp311-cp311-win_amd64.whl").touch()
    pins = {"torch": "2.13.0", "typing-extensions": "4.16.0", "numpy": "2.4.6"}
    assert packages.missing_wheels(tmp_path, pins) == ["numpy==2.4.6"]


@pytest.mark.parametrize("reachable", ["cu130", "cu126", ""])
def test_torch_comes_by_itself_from_the_first_index_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reachable: str
) -> None:
    asked: list[str] = []

    def run(self: provision.PipRun, arguments: list[str]) -> None:
        assert arguments[-2:] == ["--no-deps", "torch==2.0"]
        asked.append(arguments[arguments.index("--index-url") + 1].rpartition("/")[2])
        if asked[-1] != reachable:
            raise UserError("the package registry cannot be reached")

    monkeypatch.setattr(provision.PipRun, "run", run)
    for_windows = packages.torch_indexes(NEW, "win32")
    monkeypatch.setattr(packages, "torch_indexes", lambda gpu: for_windows)
    (tmp_path / "requirements.txt").write_text("torch==2.0\n")
    recipe = Recipe("tiny", tmp_path / "requirements.txt", tmp_path / "requirements.txt", "", (), "TINY", 0)
    tiny = Environment(recipe, base=tmp_path)
    console = Console(io.StringIO())
    if reachable:
        assert tiny._torch(console, "tiny", Source(), NEW) == f"{PYTORCH_INDEX}/{reachable}"
    else:
        with pytest.raises(UserError, match="cannot be reached"):  # no CPU build behind the artist's back
            tiny._torch(console, "tiny", Source(), NEW)
    assert asked == (["cu130"] if reachable == "cu130" else ["cu130", "cu126"])
