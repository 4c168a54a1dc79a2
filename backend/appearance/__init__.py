# SPDX-License-Identifier: GPL-3.0-or-later
"""Material fields and textures, BSDF, environment light, shading."""
