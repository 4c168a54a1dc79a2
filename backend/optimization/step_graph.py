# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of a stage that a GPU records once and then repeats: a thousand launches cost the host no more than one."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3  # ordinary steps before the recorded one: kernels load, optimisers make their state


class StepGraph:
    """Runs `step`; on CUDA as a recorded graph after a few ordinary calls.

    `step` reads what changes from tensors that stay where they are, waits for nothing, and gives all tensors shapes
    that do not depend on data. After a change of anything else (another tensor, another shape) call `renew`. Where a
    driver refuses the recording, `warn` hears of it and all steps are ordinary ones.
    """

    def __init__(
        self, step: Callable[[], None], device: torch.device, recorded: bool, warn: Callable[[str], None]
    ) -> None:
        self._step = step
        self._warn = warn
        self._recorded = recorded and device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._ordinary = 0
        self._stream = torch.cuda.Stream(device) if self._recorded else None

    def renew(self) -> None:
        """Forget the recording."""
        self._graph = None
        self._ordinary = 0

    def run(self) -> None:
        """One step."""
        if not self._recorded:
            self._step()
            return
        if self._graph is None:
            current = torch.cuda.current_stream()
            assert self._stream is not None
            if self._ordinary < WARM_UP:
                self._ordinary += 1
                self._stream.wait_stream(current)
                with torch.cuda.stream(self._stream):
                    self._step()
                current.wait_stream(self._stream)
                return
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, stream=self._stream):
                    self._step()
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                self._warn(f"this GPU cannot record steps, so that they take longer ({reason})")
                self._recorded = False
                self._step()
                return
            self._graph = graph
        self._graph.replay()
