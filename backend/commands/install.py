# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the backend's Python environment, or repairs it, and shows by a self-test that it works.

With `--events` it is a job like any other: whoever watches that folder follows its progress and may ask it to stop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import environment
from ..console import Console
from ..environment import BACKEND, Environment
from ..errors import Stopped, UserError
from ..job import Job
from ..packages import Source
from ..processes import write_atomically

HELP = "make or repair the managed environment"
NEEDS_BACKEND = False

PACKAGES_SHARE = 0.8  # of the bar, before the self-test
PIP_LOG_LINES = 60
SELF_TEST_SECONDS = 45.0  # a guess, before it has begun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="cpu: no CUDA build; cuda: fail unless it works",
    )
    parser.add_argument(
        "--torch-index",
        metavar="URL",
        default="",
        help="package index for torch alone (default: $UNRENDER_TORCH_INDEX, else what suits the machine)",
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="install from a folder of downloaded wheels, without a network (default: $UNRENDER_WHEELS)",
    )
    parser.add_argument("--repair", action="store_true", help="make everything anew if the self-test fails")
    parser.add_argument("--test-only", action="store_true", help="install nothing, only run the self-test")
    parser.add_argument("--no-test", action="store_true", help="leave the self-test out")
    parser.add_argument("--events", type=Path, metavar="DIR", help="a job folder for progress and requests")


def run(options: argparse.Namespace) -> int:
    """Make, test, and print what there is."""
    if options.events is None:
        print(_install(options, Console()))
        return 0
    with Job(options.events, {"command": "install"}) as job:
        try:
            print(_install(options, EventConsole(job)))
        except UserError:
            _print_pip_log()
            raise
    return 0


def _print_pip_log() -> None:
    """What pip said last, for whoever reads only what this process printed."""
    with contextlib.suppress(OSError):
        lines = Environment(BACKEND).log.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(["", "The end of pip's log:", *lines[-PIP_LOG_LINES:], ""]), file=sys.stderr)


class EventConsole(Console):
    """Also writes what it shows as a job's progress, and obeys when the job is asked to stop."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.began = False
        self.span = (0.0, PACKAGES_SHARE)  # which part of the bar the present task fills

    def obey(self) -> None:
        """Raises Stopped if the job was asked to stop."""
        self.job.should_stop()

    def update(
        self, task: str, text: str, phase: str = "", share: float | None = None, seconds_left: float | None = None
    ) -> None:
        """Show and write; raises Stopped."""
        self.obey()
        super().update(task, text, phase, share, seconds_left)
        if share is None:
            return
        self.began = True
        if seconds_left is not None and self.span[1] < 1.0:
            seconds_left += SELF_TEST_SECONDS
        done = self.span[0] + (self.span[1] - self.span[0]) * share
        stage = "self-test" if task == "self-test" else "install"
        self.job.report(stage, round(1000 * done), 1000, seconds_left=seconds_left, text=text)


def _install(options: argparse.Namespace, console: Console) -> str:
    """Do it; returns one line about what is there."""
    source = _source(options)
    if named := environment.named_interpreter(BACKEND):
        if not options.no_test:
            _note_own_python(named, _self_test(console, named, options.device))
        return f"{named} (from {BACKEND.variable}; left as it is)"
    backend = Environment(BACKEND)
    python = backend.interpreter
    if options.test_only:
        if defect := backend.defect():
            raise UserError(f"the environment is not usable: {defect}", where=str(backend.folder), remedy="Install it.")
    else:
        environment.ensure_backend(console, verify=bool(backend.stamp()), source=source)
    if not options.no_test:
        outcome = _self_test(console, python, options.device)
        if not outcome["passed"] and options.repair:
            console.note(f"the self-test failed: {outcome['reason']}")
            # First what costs least: kernels compiled by another driver or cut off by a crash.
            shutil.rmtree(environment.home() / "cache" / "warp", ignore_errors=True)
            outcome = _self_test(console, python, options.device)
            if not outcome["passed"]:
                environment.ensure_backend(console, source=source, spoiled="its self-test fails")
                outcome = _self_test(console, python, options.device)
        backend.note_self_test(outcome)
        if not outcome["passed"]:
            raise UserError(f"the self-test failed: {outcome['reason']}", where=str(backend.folder))
    found = backend.check() if options.no_test or options.device == "cuda" else backend.stamp()["check"]
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
    return f"{backend.interpreter}: torch {found['torch']}, warp {found['warp']}, {device}"


def _source(options: argparse.Namespace) -> Source:
    source = replace(Source.from_environ(), gpu=options.device != "cpu")
    if options.torch_index:
        source = replace(source, torch_index=options.torch_index)
    if options.wheels:
        source = replace(source, wheels=options.wheels.absolute())
    return source


def _self_test(console: Console, python: Path, device: str) -> dict[str, Any]:
    """Run `selftest` with this Python as a process of its own; a crash of it is an outcome like any other."""
    if isinstance(console, EventConsole):
        console.span = (PACKAGES_SHARE if console.began else 0.0, 1.0)
    console.update("self-test", "loading libraries", "start", share=0.0, seconds_left=SELF_TEST_SECONDS)
    command = [str(python), "-P", "-m", "backend", "selftest", "--json", "--device", device]
    path = [str(environment.ROOT)]
    if os.environ.get(BACKEND.variable) and os.environ.get("PYTHONPATH"):
        path.append(os.environ["PYTHONPATH"])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1"}
    environ |= {environment.INSIDE: str(python), environment.VERIFY: "1"}  # it repairs nothing by itself
    outcome: dict[str, Any] = {}
    said = ""
    began = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environ,
    ) as process:
        ended = threading.Event()
        refusal: list[Stopped] = []
        threading.Thread(target=_end_when_asked, args=(console, process, ended, refusal), daemon=True).start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                message = _parse(line)
                outcome = message.get("outcome", outcome)
                if "share" in message:
                    share, elapsed = float(message["share"]), time.monotonic() - began
                    left = elapsed * (1 - share) / share if share > 0.2 else max(SELF_TEST_SECONDS - elapsed, 10.0)
                    console.update("self-test", message["text"], message["text"].partition(",")[0], share, left)
                elif line.strip() and not message:
                    said = line.strip()
        except BaseException:
            process.terminate()
            raise
        finally:
            ended.set()
            console.done("self-test")
    if refusal:
        raise refusal[0]
    if process.returncode or not outcome:
        reason = said.removeprefix("unrender: ") or f"it ended with exit code {process.returncode}"
        return {"passed": False, "reason": reason}
    console.note(f"self-test passed: {outcome['psnr']:.1f} dB on {outcome['device']}")
    return {"passed": True, **outcome}


def _end_when_asked(
    console: Console, process: subprocess.Popen[str], ended: threading.Event, refusal: list[Stopped]
) -> None:
    """Obey also while the self-test says nothing."""
    while isinstance(console, EventConsole) and not ended.wait(0.3):
        try:
            console.obey()
        except Stopped as stopped:
            refusal.append(stopped)
            process.kill()
            return


def _parse(line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    return {}


def _note_own_python(python: Path, outcome: dict[str, Any]) -> None:
    """An environment of the user's own is left as it is: what the self-test found stands beside the managed ones."""
    environment.home().mkdir(parents=True, exist_ok=True)
    write_atomically(environment.own_python_note(), json.dumps({"python": str(python), **outcome}, indent=2) + "\n")
    if not outcome["passed"]:
        raise UserError(f"the self-test failed: {outcome['reason']}", where=str(python))
