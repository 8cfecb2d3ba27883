"""Private folders with the voxels of scans, and those that a killed program left behind.

Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "sparseseg-"
"""How the names of private folders begin; the number of the process follows."""

DAY = 24 * 60 * 60

_NAME = re.compile(rf"{PREFIX}(\d+)-\w+")


def private_folder(parent: Path | None) -> Path:
    """Make a folder that only this user may read, and remove what killed programs have left.

    Parameters
    ----------
    parent : Path or None
        Where; the system's temporary folder if None.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    if os.name == "posix":  # elsewhere nobody can ask for a process without touching it
        for other in folder.parent.glob(f"{PREFIX}*"):
            with suppress(OSError):
                if _is_left(other):
                    shutil.rmtree(other, ignore_errors=True)
    return folder


def _is_left(folder: Path) -> bool:
    """Tell whether a folder is this user's, unchanged for a day, and its process is gone."""
    named, facts = _NAME.fullmatch(folder.name), folder.lstat()
    if named is None or not folder.is_dir() or folder.is_symlink():
        return False
    if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < DAY:
        return False
    try:
        os.kill(int(named[1]), 0)
    except ProcessLookupError:
        return True
    return False
