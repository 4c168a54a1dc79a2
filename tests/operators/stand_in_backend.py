# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the backend: writes a job folder by script, without torch and in milliseconds.

The real backend cannot be made to crash, to write garbage or to hang at a chosen moment, and these tests are about what
Blender does then. The events' form is the contract's (DESIGN.md 3.3); claim and control file are handled by the
backend's own modules, so that these two stay honest. The scenario is the text of CAPTURE/scenario, a word and perhaps
another one that it understands.

    PYTHON stand_in_backend.py -m backend reconstruct CAPTURE --out FOLDER …
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backend.job_folder import JobFolder, read_request
from backend.processes import Claim

HUGE = "x" * 3_000_000
STAGES = ("prepare", "carve", "compare", "shape", "remesh", "cameras", "surface", "atlas", "texture", "export")
GARBAGE = (
    b"\xff\x00\xfe",
    b"{",
    b"null",
    b"[]",
    b'{"event": 5}',
    b"[" * 100_000,
    b'{"event": "progress"',
    b'{"event": "progress", "step": ' + b"9" * 10_000 + b"}",
)


class Play:
    """One run: the job folder, its events, and what the scenario does with them."""

    def __init__(self, capture: Path, folder: Path, options: list[str]) -> None:
        self.capture = capture
        self.folder = folder
        self.options = options
        self.path = folder / "events.jsonl"
        self.events = open(self.path, "wb")

    def line(self, data: bytes, end: bytes = b"\n") -> None:
        self.events.write(data + end)
        self.events.flush()

    def event(self, kind: str, **values: object) -> None:
        self.line(json.dumps({"event": kind, "time": round(time.time(), 3), **values}).encode())

    def begin(self) -> None:
        self.event("started", pid=os.getpid(), options=self.options)
        self.event("progress", stage="shape", step=1, steps=4, psnr=20.5, seconds_left=90)

    def result(self) -> None:
        shutil.copytree(self.capture / "result", JobFolder(self.folder).result, dirs_exist_ok=True)

    def finish(self) -> int:
        self.result()
        self.event("finished", result="result")
        self.events.close()
        return 0


def main(capture: Path, folder: Path, options: list[str]) -> int:
    scenario, _, argument = (capture / "scenario").read_text().partition(" ")
    if scenario == "refuse":
        print(f"{capture}: no photographs; expected at least 3, found 0. Choose another folder.", file=sys.stderr)
        return 2
    if scenario == "silent":  # as while the environment is made: no folder, no events, only words
        print("torch 17%", flush=True)
        time.sleep(60)
    if argument == "at once":
        crash()
    folder.mkdir(parents=True, exist_ok=True)
    claim = Claim(folder / "claim.json")
    assert claim.take()
    if argument == "before events":
        crash()
    play = Play(capture, folder, options)
    try:
        return SCENARIOS[scenario](play, argument)
    finally:
        claim.release()


def crash() -> None:
    print("Traceback: it went wrong", file=sys.stderr, flush=True)
    os._exit(3)


def crash_in(play: Play, stage: str) -> int:
    """Goes through the stages and ends in the middle of one, of the result, or of a line."""
    play.event("started", pid=os.getpid())
    for number, name in enumerate(STAGES, 1):
        play.event("progress", stage=name, step=number, steps=8, psnr=20.0 + number)
        if name == stage:
            crash()
    if stage == "a line":
        play.line(b'{"event": "finished", "resu', end=b"")
        crash()
    if stage == "half a result":
        (play.folder / ".result.part").mkdir()
        crash()
    play.result()
    crash()
    return 3


def fail(play: Play, argument: str) -> int:
    play.begin()
    play.event("failed", message="photo_7.png: cannot be decoded. " + HUGE[:5000])
    return 2


def garbage(play: Play, argument: str) -> int:
    play.begin()
    for data in GARBAGE:
        play.line(data)
    play.event("progress", stage="shape", step=2, steps=4, psnr=20.5)  # right after the worst, in one piece with it
    play.line(HUGE.encode())
    play.event("progress", stage=HUGE, step="many", steps=None, psnr="good", seconds_left=1e400)
    play.event("progress", stage={"a": [1]}, step=10**400, steps=0, psnr=True, memory_bytes=[])
    play.event("warning", message=HUGE)
    play.event("warning", message=["not", "text"])
    play.event("preview", file=HUGE)
    play.event("preview", file={"not": "text"})
    play.event("something_new", value=1)
    play.event("progress", stage="surface", step=3, steps=4, psnr=27.25, seconds_left=5)
    return play.finish()


def flood(play: Play, argument: str) -> int:
    """Far more than anybody can read in the time."""
    play.begin()
    warning = json.dumps({"event": "warning", "time": time.time(), "message": "w" * 1000}).encode() + b"\n"
    for _ in range(20):
        play.line(warning * 1000, end=b"")
    play.event("progress", stage="surface", step=3, steps=4, psnr=27.25, seconds_left=5)
    return play.finish()


def half_lines(play: Play, argument: str) -> int:
    """Every line in two pieces, with time to read between them."""
    text = json.dumps({"event": "progress", "time": time.time(), "stage": "surface", "step": 3, "steps": 4}).encode()
    play.begin()
    for cut in (1, 20, len(text) - 1):
        play.line(text[:cut], end=b"")
        time.sleep(0.1)
        play.line(text[cut:])
    return play.finish()


def other_file(play: Play, how: str) -> int:
    """The events file does not stay what it was."""
    play.begin()
    for number in range(50):
        play.event("warning", message=f"old {number}")
    time.sleep(0.4)
    if how == "truncated":
        play.events.truncate(len(play.path.read_bytes().splitlines()[0]) + 1)
        play.events.seek(0, os.SEEK_END)
    else:
        play.events.close()
        play.path.unlink()
        if how == "vanished":
            time.sleep(0.4)
        elif how == "a pipe":
            os.mkfifo(play.path)
            time.sleep(0.4)
            play.path.unlink()
        elif how == "a folder":
            play.path.mkdir()
            time.sleep(0.4)
            play.path.rmdir()
        play.events = open(play.path, "wb")
        play.event("started", pid=os.getpid())
    play.event("progress", stage="surface", step=3, steps=4, psnr=27.25)
    return play.finish()


def hang(play: Play, argument: str) -> int:
    """Says nothing more, hears nothing, and has a child as busy as itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (play.folder / "child").write_text(str(child.pid))
    play.begin()
    time.sleep(60)
    return 1


def slow_exit(play: Play, argument: str) -> int:
    play.begin()
    play.finish()
    time.sleep(1.0)
    return 0


def obey(play: Play, argument: str) -> int:
    play.begin()
    return listen(play)


def listen(play: Play) -> int:
    """Pauses, resumes and ends as the control file asks."""
    paused = False
    for _ in range(3000):
        request, _ = read_request(play.folder)
        if request == "stop":
            play.event("stopped")
            return 130
        if request == "finish":
            return play.finish()
        if (request == "pause") != paused:
            paused = request == "pause"
            play.event("progress", stage="shape", step=2, steps=4, **({"paused": True} if paused else {}))
        time.sleep(0.01)
    return 1


def show(play: Play, argument: str) -> int:
    """Announces the files that stand in CAPTURE/previews, then listens. `argument`: the seconds between two, or 'held'
    if all after the first wait for a file CAPTURE/go."""
    play.begin()
    folder = JobFolder(play.folder).preview
    folder.mkdir(exist_ok=True)
    for number, path in enumerate(sorted((play.capture / "previews").iterdir())):
        while argument == "held" and number > 0 and not (play.capture / "go").exists():
            time.sleep(0.01)
        shutil.copyfile(path, folder / f"{path.name}.part")
        os.replace(folder / f"{path.name}.part", folder / path.name)
        play.event("preview", file=f"preview/{path.name}")
        time.sleep(0 if argument == "held" else float(argument or 0))
    return listen(play)


def finish(play: Play, argument: str) -> int:
    play.begin()
    return play.finish()


SCENARIOS: dict[str, Callable[[Play, str], int]] = {
    "crash": crash_in,
    "fail": fail,
    "finish": finish,
    "flood": flood,
    "garbage": garbage,
    "half": half_lines,
    "hang": hang,
    "obey": obey,
    "other": other_file,
    "show": show,
    "slow": slow_exit,
}


if __name__ == "__main__":
    given = sys.argv[sys.argv.index("reconstruct") + 1 :]
    sys.exit(main(Path(given[0]), Path(given[given.index("--out") + 1]), given[3:]))
