"""What the tests of the Slicer module share: its folder is on the path, as Slicer puts it there."""

from __future__ import annotations

import sys
from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "slicer_extension" / "SparseSeg"
sys.path.insert(0, str(MODULE))
