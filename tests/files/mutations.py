"""Changed headers: what comes of a valid file when bytes or fields of its header change."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import parts, read_volume
from tests.files.samples import assert_one_sentence, write_samples

KINDS = (
    "nifti",
    "nifti packed",
    "nifti 2",
    "nifti pair",
    "analyze",
    "nrrd",
    "nrrd packed",
    "nrrd detached",
    "metaimage",
    "metaimage packed",
    "metaimage detached",
)
"""The samples whose headers are changed."""

MOST_MEMORY = 48 * 10**6
"""Bytes that reading any of these files of a few kB may take at its peak."""

_BINARY = {"nifti": 352, "nifti packed": 352, "nifti 2": 544, "nifti pair": 348, "analyze": 348}
_NUMBERS = ["0", "-1", "1", "2", "7", "1e9", "65536", "4294967296", "-0.5", "nan", "inf", "1e300"]
_WORDS = [
    *("", "none", "???", "raw", "gzip", "big", "LPS", "LIST", "LOCAL", "True", "MET_DOUBLE"),
    *("list domain domain domain", "double", "../x", "/dev/zero", "%d", "(1,0,0)", "domain", "\0"),
]


def changed_headers(what: str, folder: Path, examples: int) -> None:
    """Read a sample again and again with a changed header.

    Each time it must give a volume or one sentence, and take no more than `MOST_MEMORY`.

    Parameters
    ----------
    what : str
        One of `KINDS`.
    folder : pathlib.Path
        An empty folder.
    examples : int
        How many changes to try.
    """
    path = write_samples(folder)[what]
    content = path.with_suffix(".hdr").read_bytes() if what == "analyze" else path.read_bytes()
    header = path.with_suffix(".hdr") if what == "analyze" else path
    read_volume(path)  # what the libraries keep of themselves

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(change=_bytes_changed(_BINARY[what]) if what in _BINARY else _text_changed())
    def try_it(change: Callable[[bytes], bytes]) -> None:
        if what == "nifti packed":
            header.write_bytes(gzip.compress(change(gzip.decompress(content)), 1))
        else:
            header.write_bytes(change(content))
        _volume_or_sentence(path)

    try_it()


def _volume_or_sentence(path: Path) -> None:
    tracemalloc.start()
    try:
        listed = parts(path)
        volume = read_volume(path, part=listed[-1].key)
        assert volume.data.ndim == 3 and volume.affine.shape == (4, 4)
        assert all(note.endswith(".") and "\n" not in note for note in volume.notes)
        volume.validated()
    except InputError as error:
        assert_one_sentence(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MOST_MEMORY


def _bytes_changed(length: int) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Change single bytes, and numbers of two and four bytes at the places of numbers."""
    place = st.integers(0, length - 1)
    single = st.tuples(place, st.binary(min_size=1, max_size=1))
    numbers = st.one_of(
        st.integers(-(2**15), 2**15 - 1).map(lambda n: np.int16(n).tobytes()),
        st.integers(-(2**31), 2**31 - 1).map(lambda n: np.int32(n).tobytes()),
        st.floats(width=32).map(lambda x: np.float32(x).tobytes()),
    )
    number = st.tuples(place.map(lambda n: n // 4 * 4), numbers)

    def change(changes: list[tuple[int, bytes]]) -> Callable[[bytes], bytes]:
        def apply(content: bytes) -> bytes:
            changed = bytearray(content)
            for start, value in changes:
                changed[start : start + len(value)] = value
            return bytes(changed)

        return apply

    return st.lists(single | number, min_size=1, max_size=6).map(change)


def _text_changed() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Change the lines of a text header: their values, their order, their number, their bytes."""
    value = st.one_of(
        st.lists(st.sampled_from(_NUMBERS), max_size=17).map(" ".join),
        st.sampled_from(_WORDS),
        st.text("0123456789 .,()-+eE%x\"'=:#/\\", max_size=40),
    )
    line = st.integers(0, 20)
    edits = st.one_of(
        st.tuples(st.just("value"), line, value),
        st.tuples(st.just("drop"), line, st.just("")),
        st.tuples(st.just("twice"), line, st.just("")),
        st.tuples(st.just("cut"), line, st.just("")),
        st.tuples(st.just("byte"), line, st.characters(max_codepoint=255)),
    )

    def change(changes: list[tuple[str, int, str]]) -> Callable[[bytes], bytes]:
        def apply(content: bytes) -> bytes:
            lines = content.split(b"\n", 18)
            for edit, number, text in changes:
                place = number % len(lines)
                lines[place : place + 1] = _edited(edit, lines[place], text)
                lines = lines or [b""]
            return b"\n".join(lines)

        return apply

    return st.lists(edits, min_size=1, max_size=3).map(change)


def _edited(edit: str, line: bytes, text: str) -> list[bytes]:
    if edit == "drop":
        return []
    if edit == "twice":
        return [line, line]
    if edit == "cut":
        return [line[: len(line) // 2]]
    if edit == "byte":
        return [text.encode("latin-1") + line[1:]]
    for sign in (b" = ", b": "):
        key, found, _ = line.partition(sign)
        if found:
            return [key + sign + text.encode("latin-1")]
    return [text.encode("latin-1")]
