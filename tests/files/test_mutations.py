"""Every format: a changed header gives a volume or one sentence, and takes little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.files.mutations import KINDS, changed_headers


@pytest.mark.parametrize("what", KINDS)
def test_a_changed_header_gives_a_volume_or_a_sentence(tmp_path: Path, what: str) -> None:
    changed_headers(what, tmp_path, examples=40)
