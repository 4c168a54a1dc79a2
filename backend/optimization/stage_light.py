# SPDX-License-Identifier: GPL-3.0-or-later
"""The light as a stage uses it: filtered only every so many steps, shadowed where shadows have been traced."""

from __future__ import annotations

import torch
from torch import Tensor

from ..appearance.environment import EnvironmentLight, Prefiltered
from ..appearance.fragments import Fragments
from ..appearance.local_light import LocalLight
from ..appearance.transport import Transport, VertexLight
from .settings import Settings


class StageLight:
    """Filters `light` and carries it to the vertices every `interval` steps; between them it is a constant.

    Filtering costs the same for one pixel as for a million, which on a CPU is a good part of a step. Only the steps
    that filter give the light a gradient. On a GPU all steps are one recording, and each filters.
    """

    def __init__(self, light: EnvironmentLight, interval: int) -> None:
        self._light = light
        self.interval = 1 if light.log_radiance.is_cuda else interval
        self._transport: Transport | None = None
        self._base_color: Tensor | None = None
        self._filtered: Prefiltered | None = None
        self._arriving: VertexLight | None = None

    def cast_shadows(self, transport: Transport, base_color: Tensor) -> None:
        """From now on light arrives through `transport`, reflected by vertices of `base_color` [V, 3]."""
        self._transport, self._base_color = transport.toward(self._light.base()), base_color
        self._filtered = None

    def update(self, step: int) -> bool:
        """Prepare for `step`; returns whether the light has a gradient in it."""
        learns = step % self.interval == 0
        if learns or self._filtered is None:
            self._filter()
        elif self._filtered.packed.texels.requires_grad:
            with torch.no_grad():
                self._filter()
        return learns

    def _filter(self) -> None:
        self._filtered = self._light.prefilter()
        if self._transport is not None and self._base_color is not None:
            base = self._filtered.levels[0]
            self._arriving = self._transport.light_vertices(self._filtered, base, self._base_color)

    def at(self, fragments: Fragments) -> Prefiltered | LocalLight:
        """The light at `fragments`."""
        assert self._filtered is not None, "update comes first"
        if self._transport is None or self._arriving is None:
            return self._filtered
        return LocalLight.at(fragments, self._transport, self._filtered, self._arriving)


def light_prior(light: EnvironmentLight, settings: Settings) -> Tensor:
    """The penalty on a light that is colored or uneven, a scalar."""
    terms = (
        (settings.light_neutrality, light.neutrality_loss),
        (settings.light_tint, light.tint_loss),
        (settings.light_smoothness, light.smoothness_loss),
    )
    zero = torch.zeros((), device=light.log_radiance.device)
    return sum((weight * loss() for weight, loss in terms if weight), start=zero)
