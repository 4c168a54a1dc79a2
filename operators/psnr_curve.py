# SPDX-License-Identifier: GPL-3.0-or-later
"""The quality of a running job over time, in a bounded number of values (no bpy)."""

MOST_VALUES = 256


class PsnrCurve:
    """PSNR values, evenly spaced over the job however long it runs: when there are too many, two become one."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._stride = 1  # reports that one value stands for
        self._gathered: list[float] = []

    def add(self, psnr: float) -> None:
        """One more report."""
        self._gathered.append(psnr)
        if len(self._gathered) < self._stride:
            return
        self.values.append(sum(self._gathered) / len(self._gathered))
        self._gathered.clear()
        if len(self.values) >= MOST_VALUES:
            pairs = zip(self.values[::2], self.values[1::2])
            self.values = [(first + second) / 2 for first, second in pairs]
            self._stride *= 2
