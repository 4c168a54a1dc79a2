# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction, a program of its own: photographs with camera poses in, mesh, textures and light out."""
