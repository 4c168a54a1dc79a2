# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the backend: writes a job folder by script, without torch and in milliseconds.

The real backend cannot be made to crash, to write garbage or to hang at a chosen moment, and these tests are about what
Blender does then. The events' form is the contract's (DESIGN.md 3.3); claim and control file are handled by the
backend's own modules, so that these two stay honest. The scenario is the text of CAPTURE/scenario.

    PYTHON stand_in_backend.py -m backend reconstruct CAPTURE --out FOLDER …
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backend.job_folder import JobFolder, read_request
from backend.processes import Claim

HUGE = "x" * 3_000_000


def main(capture: Path, folder: Path, options: list[str]) -> int:
    scenario = (capture / "scenario").read_text()
    if scenario == "refuse":
        print(f"{capture}: no photographs; expected at least 3, found 0. Choose another folder.", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    claim = Claim(folder / "claim.json")
    assert claim.take()
    try:
        return play(scenario, capture, folder, options)
    finally:
        claim.release()


def play(scenario: str, capture: Path, folder: Path, options: list[str]) -> int:
    events = open(folder / "events.jsonl", "wb")

    def line(data: bytes) -> None:
        events.write(data + b"\n")
        events.flush()

    def event(kind: str, **values: object) -> None:
        line(json.dumps({"event": kind, "time": round(time.time(), 3), **values}).encode())

    event("started", pid=os.getpid(), options=options)
    event("progress", stage="shape", step=1, steps=4, psnr=20.5, seconds_left=90)
    if scenario == "crash":
        print("Traceback: it went wrong", file=sys.stderr, flush=True)
        os._exit(3)
    if scenario == "fail":
        event("failed", message="photo_7.png: cannot be decoded. " + HUGE[:5000])
        return 2
    if scenario == "garbage":
        for garbage in (
            b"\xff\x00\xfe",
            b"{",
            b"null",
            b"[]",
            b'{"event": 5}',
            b"[" * 100_000,
            b'{"event": "progress"',
        ):
            line(garbage)
        line(HUGE.encode())
        event("progress", stage=HUGE, step="many", steps=None, psnr="good", seconds_left=1e400)
        event("progress", stage={"a": [1]}, step=10**400, steps=0, psnr=True)
        event("warning", message=HUGE)
        event("warning", message=["not", "text"])
        event("something_new", value=1)
        event("progress", stage="surface", step=3, steps=4, psnr=27.25, seconds_left=5)
    if scenario == "obey":
        return obey(event, folder)
    if scenario == "hang":
        time.sleep(60)
    shutil.copytree(capture / "result", JobFolder(folder).result, dirs_exist_ok=True)
    event("finished", result="result")
    events.close()
    if scenario == "slow exit":
        time.sleep(1.0)
    return 0


def obey(event, folder: Path) -> int:  # type: ignore[no-untyped-def]
    """Pauses, resumes and ends as the control file asks."""
    paused = False
    for _ in range(1000):
        request, _ = read_request(folder)
        if request == "stop":
            event("stopped")
            return 130
        if request == "finish":
            event("finished", result="result")
            return 0
        if (request == "pause") != paused:
            paused = request == "pause"
            event("progress", stage="shape", step=2, steps=4, **({"paused": True} if paused else {}))
        time.sleep(0.01)
    return 1


if __name__ == "__main__":
    given = sys.argv[sys.argv.index("reconstruct") + 1 :]
    sys.exit(main(Path(given[0]), Path(given[given.index("--out") + 1]), given[3:]))
