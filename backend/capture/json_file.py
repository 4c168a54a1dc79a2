# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that a user may have edited: reading it and its values, with a clear line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UserError

LARGEST = 1e12  # beyond it, no length, angle or size means anything and products overflow


def read_json(path: Path) -> Any:
    """Parse a JSON file; raises UserError with line and column where it is broken."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path)) from error
    except UnicodeDecodeError as error:
        raise UserError("not a text file", str(path), "JSON in UTF-8", f"byte {error.start} that is not") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        found = "an empty file" if not text.strip() else f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise UserError("broken JSON", str(path), found=found) from error
    except RecursionError as error:
        raise UserError("broken JSON", str(path), found="brackets nested too deep") from error


def describe(value: Any) -> str:
    """A few words for what stands in a JSON file, for error messages."""
    if isinstance(value, dict):
        keys = ", ".join(sorted(map(str, value))[:5])
        return f"an object with the keys {keys}{', …' if len(value) > 5 else ''}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def number(data: dict[str, Any], key: str, where: str) -> float | None:
    """``data[key]`` as a finite number, None where it is absent or null."""
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise UserError(f'"{key}" is wrong', where, "a finite number", describe(value))
    return float(value)


def positive(data: dict[str, Any], key: str, where: str) -> float | None:
    """``data[key]`` as a finite number above zero, None where it is absent or null."""
    value = number(data, key, where)
    if value is not None and value < 1.0 / LARGEST:
        raise UserError(f'"{key}" is wrong', where, "a number above 0", describe(data[key]))
    return value


def text(data: dict[str, Any], key: str, where: str) -> str | None:
    """``data[key]`` as text that is not empty, None where it is absent or null."""
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise UserError(f'"{key}" is wrong', where, "text", describe(value))
    return value
