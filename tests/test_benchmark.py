# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark: one run from capture to table, what it refuses, and how it goes on after a failure."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backend import __main__ as cli
from backend import environment
from backend.benchmark import child, measure, tables
from backend.errors import UserError
from backend.kernels import timing
from backend.optimization.settings import PRESETS, Settings
from backend.optimization.switches import SWITCHES, settings_without, switch_names
from backend.processes import start_time
from tests.optimization.synthetic import SETTINGS

DEMO = environment.ROOT / "demo"
STEPS = {"shape_steps": 2, "surface_steps": 2, "texture_steps": 2, "max_size": 64}
VIEWS = {"train": 12, "test": 2}


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this interpreter in place of a managed environment."""
    monkeypatch.setenv("UNRENDER_PYTHON", sys.executable)
    monkeypatch.setenv(cli.INSIDE, sys.executable)
    monkeypatch.setenv("UNRENDER_LAUNCHED", "0")


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """A folder of two captures: some photographs of the demo, and one that holds nothing."""
    folder = tmp_path / "datasets"
    (folder / "broken").mkdir(parents=True)
    (folder / "demo").mkdir()
    for split, count in VIEWS.items():
        name = f"transforms_{split}.json"
        cameras = json.loads((DEMO / name).read_text(encoding="utf-8"))
        cameras["frames"] = cameras["frames"][:: len(cameras["frames"]) // count][:count]
        (folder / "demo" / name).write_text(json.dumps(cameras), encoding="utf-8")
        (folder / "demo" / split).symlink_to(DEMO / split, target_is_directory=True)
    return folder


def benchmark(*arguments: object) -> int:
    return cli.main(["benchmark", *map(str, arguments)])


def cells(markdown: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in markdown.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.slow
def test_from_captures_to_the_table(
    monkeypatch: pytest.MonkeyPatch, datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # all is so small that threads would only wait for each other
    sets = [f"--set={key}={json.dumps(value)}" for key, value in (SETTINGS | STEPS).items()]
    more = ["--preset", "draft", "--device", "cpu", "--max-views", 1, "--without", "bounce,carve-stage", *sets]
    code = benchmark(datasets, "--captures", "broken,demo", "--out", tmp_path / "out", *more)
    said = capsys.readouterr()
    assert code == 2 and said.err.splitlines()[-1].startswith("unrender: benchmark: 1 of 2 runs failed")
    assert (tmp_path / "out" / "benchmark.md").read_text(encoding="utf-8") == said.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["benchmark.json", "benchmark.md", "jobs"]

    report = json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))
    assert (
        report["machine"]["name"] and "torch" in report["versions"] and report["without"] == ["bounce", "carve-stage"]
    )
    broken, demo = report["captures"]["broken"], report["captures"]["demo"]
    assert str(datasets / "broken") in broken["failed"] and "psnr" not in broken
    noted = json.loads((tmp_path / "out" / "jobs" / "demo" / "result" / "report.json").read_text(encoding="utf-8"))
    assert noted["settings"]["bounce"] is False and noted["settings"]["shape_steps"] == 2
    assert demo["seconds"] == noted["seconds"] and demo["wall_seconds"] > sum(noted["seconds"].values())
    assert demo["steps_per_second"]["shape"] == pytest.approx(2 / noted["seconds"]["shape"], abs=0.01)
    assert demo["views"] == 1 and demo["psnr"] > 10 and demo["flat_color_psnr"] > 10
    assert demo["peak_gpu_memory_bytes"] is None
    assert os.name != "posix" or 1e8 < demo["peak_cpu_memory_bytes"] < 1e11

    rows = cells(said.out)
    assert rows["outcome"][0].startswith("failed: ") and rows["outcome"][1] == "done"
    assert rows["PSNR, dB"] == [tables.NOTHING, f"{demo['psnr']:.2f}"]
    assert rows["shape, s"] == [tables.NOTHING, f"{noted['seconds']['shape']:.1f}"]
    assert rows["environment error"] == [tables.NOTHING, tables.NOTHING]


def test_what_it_refuses(datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "file").write_text("mine")
    refused: list[tuple[list[object], tuple[str, ...]]] = [
        ([], ("DATASETS", "--kernels")),
        ([tmp_path / "none"], (str(tmp_path / "none"), "not a folder")),
        ([datasets, "--captures", "demo,lego,mic"], (str(datasets), "lego, mic", "broken, demo")),
        ([datasets, "--captures", "../datasets"], ("../datasets",)),
        ([datasets], ("lego, mic, goldcape, helmet, patchwork",)),  # none of those that are measured by default
        ([datasets, "--captures", "demo", "--without", "shadow"], ("--without shadow", "shadows")),
        ([datasets, "--captures", "demo", "--set", "no_such=1"], ("--set no_such",)),
        ([datasets, "--captures", "demo", "--out", tmp_path / "file"], (str(tmp_path / "file"),)),
    ]
    for arguments, said in refused:
        assert benchmark("--out", out, *arguments) == 2
        output = capsys.readouterr()
        assert len(output.err.splitlines()) == 1 and not output.out
        for text in said:
            assert text in output.err, output.err
    assert not out.exists()


def test_reconstruct_refuses_an_unknown_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reconstruct", str(DEMO), "--out", str(tmp_path / "job"), "--without", "bounce,magic"]) == 2
    assert "--without magic" in capsys.readouterr().err and not (tmp_path / "job").exists()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], measure.Plan]]:
    """In place of real runs: each is noted, worth 20 dB and a decibel less without shadows, and fails on eikonal."""
    runs: list[tuple[str, list[str], measure.Plan]] = []

    def fake(capture: Path, job: Path, plan: measure.Plan, console: object, without: list[str]) -> dict[str, Any]:
        runs.append((job.name, without, plan))
        if without == ["eikonal"]:
            return {"wall_seconds": 1.0, "failed": "a|b"}
        return {"wall_seconds": 60.0, "psnr": 19.0 if without == ["shadows"] else 20.0, "metallic_iou": None}

    monkeypatch.setattr(measure, "measure", fake)
    monkeypatch.setattr(measure, "machine", lambda: {"name": "here", "gpu": None})
    return runs


def test_ablation_runs_each_switch_once(
    measured: list[tuple[str, list[str], measure.Plan]],
    datasets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (datasets / "hdri").mkdir()
    assert benchmark(datasets, "--captures", "demo", "--ablate", "--without", "bounce", "--out", tmp_path) == 2
    left = [name for name in SWITCHES if name != "bounce"]
    assert [without for _, without, _ in measured] == [[], *([name] for name in left)]
    assert [job for job, _, _ in measured] == ["demo", *(f"demo-without-{name}" for name in left)]
    plan = measured[0][2]
    assert plan.without == ("bounce",) and plan.hdris == datasets / "hdri" and plan.preset == "standard"
    table = capsys.readouterr().out.split("\n\n", 1)[1]
    rows = cells("\n".join(line.removeprefix("| demo    ") for line in table.splitlines()))
    assert rows["without shadows"] == ["-1.00", tables.NOTHING, tables.NOTHING, tables.NOTHING, "+0.0"]
    assert rows["without smoothness"][0] == "+0.00" and rows["without eikonal"][0] == "failed: a\\|b"
    report = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert list(report["ablation"]["demo"]) == left and report["captures"]["demo"]["psnr"] == 20


def test_kernels_need_no_captures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = functools.partial(timing.time_kernels, spheres=((4, 5), (6, 7)), views=1, size=32, seconds=0.0)
    monkeypatch.setattr(timing, "time_kernels", small)
    monkeypatch.setattr(measure, "machine", lambda: {"name": "here", "gpu": None})
    assert benchmark("--kernels", "--device", "cpu", "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))
    assert [row["triangles"] for row in report["kernels"]] == [30] * 7 + [70] * 7
    assert all(row["milliseconds"] > 0 and row["nvdiffrast_milliseconds"] is None for row in report["kernels"])
    rows = cells(capsys.readouterr().out)
    assert rows["all three, forward and backward"][-4:] == [tables.NOTHING] * 4


def test_kernel_ratios_and_escapes() -> None:
    row = {"what": "x", "triangles": 8, "milliseconds": 2.0, "recorded_milliseconds": 0.5, "nvdiffrast_milliseconds": 3}
    assert cells(tables.kernel_table([row]))["x"] == ["8", "2.000", "0.500", "3.000", "1.50", "6.00"]
    alone = cells(tables.kernel_table([row | {"nvdiffrast_milliseconds": None}]))
    assert alone["x"] == ["8", "2.000", "0.500", *[tables.NOTHING] * 3]
    assert tables.table(["", "a"], [["b|c", "1"]]) == "|      |   a |\n|------|----:|\n| b\\|c |   1 |"


def test_every_switch_turns_a_setting_off() -> None:
    for preset in PRESETS:
        settings = Settings.from_preset(preset)
        for name, (description, off) in SWITCHES.items():
            assert description and switch_names([name]) == [name]
            changed = Settings.from_preset(preset, overrides=settings_without([name]))
            for key, value in off.items():
                assert getattr(changed, key) == value, (preset, name)
                # A draft does not carve, and its light has few texels: there is nothing to turn off.
                absent = preset == "draft" and name in ("carve-stage", "light-smoothness")
                assert absent == (value == getattr(settings, key)), (preset, name)
    assert switch_names(["bounce, shadows", "bounce"]) == ["bounce", "shadows"]
    with pytest.raises(UserError, match="--without magic"):
        switch_names(["bounce,magic"])


def run_python(program: str, watch: Any = None) -> child.Ended:
    return child.run_child([sys.executable, "-c", program], dict(os.environ), watch)


def test_a_child_says_how_it_ended() -> None:
    ended = run_python("import time; x = bytearray(200_000_000); time.sleep(0.3); print('done')")
    assert ended.output == "done\n" and not ended.problem and ended.seconds > 0.3
    assert ended.peak_memory is None or ended.peak_memory > 2e8
    failed = run_python("import sys; sys.stderr.write('working\\r\\x1b[Kunrender: no luck.\\n'); sys.exit(2)")
    assert failed.problem.endswith("no luck.")
    assert run_python("raise SystemExit(3)").problem == "ended with exit code 3"


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_stop_ends_the_child_first(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = f"""
import os, pathlib, signal, sys, time
told = pathlib.Path({str(told)!r})
signal.signal(signal.SIGTERM, lambda *_: (told.write_text("stopped"), sys.exit(130)))
told.write_text(str(os.getpid()))
time.sleep(60)
"""
    pids = []

    def interrupt() -> None:
        if told.exists() and (text := told.read_text()):
            pids.append(int(text))
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_python(program, interrupt)
    assert time.monotonic() - began < 30 and told.read_text() == "stopped"
    assert not start_time(pids[0])
    assert run_python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").problem == "ended by signal 9"


def test_a_failing_evaluation_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def fake(arguments: list[str], watch: object = None) -> child.Ended:
        calls.append(arguments)
        if arguments[0] == "evaluate":
            return child.Ended(1.0, "", "no views", None)
        (tmp_path / "job" / "result").mkdir(parents=True)
        report = {"seconds": {"shape": 2.0, "load": 1.0}, "settings": {"shape_steps": 10}, "device": "CPU"}
        (tmp_path / "job" / "result" / "report.json").write_text(json.dumps(report))
        return child.Ended(5.0, "", "", 7)

    monkeypatch.setattr(measure, "run_backend", fake)
    plan = measure.Plan("draft", "cpu", ("seed=1",), ("bounce",), max_views=3, hdris=tmp_path)
    console = cli.Console()
    figures = measure.measure(DEMO, tmp_path / "job", plan, console, ["shadows"])
    assert figures["failed"] == "evaluate: no views." and figures["wall_seconds"] == 5
    assert figures["steps_per_second"] == {"shape": 5.0} and figures["peak_cpu_memory_bytes"] == 7
    reconstruct, evaluate = calls
    assert reconstruct[-3:] == ["--set=seed=1", "--without=bounce", "--without=shadows"]
    assert "--holdout" not in reconstruct  # the demo has views of its own for this
    assert evaluate[-4:] == ["--max-views", "3", "--hdris", str(tmp_path)]


def test_views_are_held_out_where_none_are() -> None:
    class NoTest:
        @staticmethod
        def split(name: str) -> tuple[()]:
            return ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "read_capture", lambda path: NoTest())
        arguments = measure._reconstruct_arguments(Path("x"), Path("job"), measure.Plan("draft", "cpu"), [])
    assert arguments[-2:] == ["--holdout", "8"]
