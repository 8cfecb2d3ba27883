"""The module loaded anew, as a developer does in Slicer; in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.slicer.conftest import MODULE, TOP

RELOAD = """
import sys
from PySide6.QtWidgets import QApplication
application = QApplication([])
from tests.slicer import standins
standins.install({module!r})

def widget():
    import SparseSeg
    made = SparseSeg.SparseSegWidget()
    made.setup()
    return made, sys.modules["SparseSegLib.widget"]

first, library = widget()
first.onReload()
assert first.panel is None and first.logic is None
del sys.modules["SparseSeg"]  # Slicer itself does this
second, again = widget()
assert library is not again
second.cleanup()
print("reloaded")
"""


def test_reload_loads_the_library_anew(standins: Any):
    code = f"import sys; sys.path[:0] = [{str(MODULE)!r}, {str(TOP)!r}]\n"
    code += RELOAD.format(module=str(MODULE))

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.stdout.strip().endswith("reloaded"), result.stderr
