# SPDX-License-Identifier: GPL-3.0-or-later
"""The two exceptions that end a command in an ordinary way."""

from __future__ import annotations


class UserError(Exception):
    """Wrong input, or a machine that cannot do what was asked: shown as one line, exit code 2.

    Every part but `what` may be empty. `where` names the file or option, `expected` and `found` stand beside each
    other, `remedy` is a whole sentence that says what to do.
    """

    def __init__(self, what: str, where: str = "", expected: str = "", found: str = "", remedy: str = "") -> None:
        super().__init__(what, where, expected, found, remedy)  # all of them, so that the exception can be copied
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.expected and self.found:
            line += f"; expected {self.expected}, found {self.found}"
        elif self.expected:
            line += f"; expected {self.expected}"
        elif self.found:
            line += f"; found {self.found}"
        line = line.rstrip(". ") + "."
        if self.remedy:
            line += " " + self.remedy
        return " ".join(line.split())


class Stopped(Exception):
    """The user asked the job to stop: exit code 130."""
