# SPDX-License-Identifier: GPL-3.0-or-later
"""The same Blender as for the operators' tests."""

from tests.operators.conftest import empty_file, result

__all__ = ("empty_file", "result")
