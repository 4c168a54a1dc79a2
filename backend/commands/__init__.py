# SPDX-License-Identifier: GPL-3.0-or-later
"""One module per command: HELP, NEEDS_BACKEND (continue in the managed environment), add_arguments(), run().

Importing them needs the standard library only; what needs torch or numpy is imported inside run().
"""
