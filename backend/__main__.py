# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `python3 -m backend COMMAND …` from the repository's root, with any Python from 3.11 on.

Started with an ordinary Python it needs the standard library only. Commands that need torch continue in the managed
environment, which is made first if need be. Exit codes: 0 done, 1 a defect of ours (with a log), 2 wrong input or a
machine that cannot do it (with one line that says what), 130 stopped by the user.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # whoever starts us with an older one deserves to hear it
    sys.exit(f"Unrender needs Python 3.11 or newer, found {sys.version.split()[0]}.")

import argparse
import errno
import os
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from . import environment
from .commands import benchmark, demo, evaluate, inspect, install, package, reconstruct, selftest, solve
from .console import Console
from .environment import INSIDE, VERIFY
from .errors import Stopped, UserError
from .processes import replace_process

COMMANDS: tuple[ModuleType, ...] = (demo, install, selftest, inspect, solve, reconstruct, evaluate, benchmark, package)

EXIT_DEFECT = 1
EXIT_USER = 2
EXIT_STOPPED = 130


class Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(EXIT_USER, f"{self.prog}: {message}. See {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each adds its own arguments."""
    parser = Parser(prog="python3 -m backend", description="Photographs with camera poses become a Blender asset.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(module=module)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    os.environ.setdefault("UNRENDER_LAUNCHED", str(time.time()))
    try:
        if options.module.NEEDS_BACKEND:
            _continue_inside(arguments)
        code = options.module.run(options)
        sys.stdout.flush()
        return int(code)
    except UserError as error:
        return _say(str(error), EXIT_USER)
    except (Stopped, KeyboardInterrupt):
        return _say("stopped", EXIT_STOPPED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except MemoryError:
        return _say("not enough memory. Choose a lower preset or a smaller --max-size.", EXIT_USER)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM):
            where = f"{error.filename}: " if error.filename else ""
            return _say(f"{where}{error.strerror}. Make room, or choose a folder that you may write.", EXIT_USER)
        return _defect(error)
    except ImportError as error:
        _repair(error, arguments)
        return _defect(error)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's own; importing torch to name it takes seconds
            return _say("the GPU has not enough memory. Choose a lower preset or a smaller --max-size.", EXIT_USER)
        return _defect(error)


def _continue_inside(arguments: Sequence[str]) -> None:
    """Make sure that we run in the backend's environment, and return only if this process already does."""
    if os.environ.get(INSIDE) == sys.executable:
        return
    verify = os.environ.get(VERIFY) == "1"
    python = environment.ensure_backend(Console(), verify=verify)
    if os.environ.get(INSIDE) == str(python):
        return  # a script that starts another interpreter: it has done so
    _replace(str(python), arguments, {INSIDE: str(python), VERIFY: "2" if verify else "0"})


def _repair(error: ImportError, arguments: Sequence[str]) -> None:
    """After a failed import in the managed environment: check and repair it from outside, once, and start again."""
    managed = not os.environ.get(environment.BACKEND.variable)
    ours = (error.name or "").partition(".")[0] in ("backend", "operators", "panels")
    if managed and not ours and os.environ.get(INSIDE) == sys.executable and os.environ.get(VERIFY) == "0":
        print(f"the environment is broken ({error}); checking it", file=sys.stderr)
        outside = getattr(sys, "_base_executable", sys.executable)
        _replace(outside, arguments, {INSIDE: "", VERIFY: "1"})


def _replace(python: str, arguments: Sequence[str], variables: dict[str, str]) -> NoReturn:
    # -P: the current folder must not lend us its modules; the root is where this package stands.
    path = [str(environment.ROOT)]
    if os.environ.get(environment.BACKEND.variable) and os.environ.get("PYTHONPATH"):
        path.append(os.environ["PYTHONPATH"])
    more = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1", **variables}
    replace_process([python, "-P", "-m", "backend", *arguments], {**os.environ, **more})


def _say(line: str, code: int) -> int:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(f"unrender: {line}", file=sys.stderr)
    return code


def _defect(error: BaseException) -> int:
    """A traceback goes to a log file; the user gets one line that names it."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (environment.home() / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        summary = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return _say(f"unexpected error, please report it with the log {folder / name} ({summary})", EXIT_DEFECT)
    return _say(f"unexpected error: {type(error).__name__}: {error}", EXIT_DEFECT)


def _terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries, to developers; python3 -W default -m backend shows them
    try:
        code = main()
    except KeyboardInterrupt:
        code = _say("stopped", EXIT_STOPPED)
    sys.exit(code)
