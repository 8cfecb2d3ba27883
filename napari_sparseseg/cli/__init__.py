"""The ``sparseseg`` command: the engine without a window.

What a user can put right ends in one line on the standard error and exit code 2; nothing but
wanted results goes to the standard output.
"""

from napari_sparseseg.cli.app import main

__all__ = ["main"]
