"""The token grid and the trace, in memory and on disk."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import assert_sentence, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.tokens import TRACE_FILES, Dependencies, TokenGrid, TokenTrace

AFFINE = np.array(
    [[-1.6, 0, 1.2, 90.0], [0, 2.0, 0, -126], [1.2, 0, 1.6, -72], [0, 0, 0, 1]]
)  # 2 mm voxels, oblique in the R-S plane


@pytest.fixture
def trace() -> TokenTrace:
    """Give a trace of 3 x 2 x 2 tokens, 2 stages, 4 blocks."""
    grid = TokenGrid.over((17, 16, 9), AFFINE)
    pruned = np.zeros(grid.shape, dtype=np.uint8)
    pruned[0, 0], pruned[0, 1, 0] = 1, 2
    air = np.zeros(grid.shape, dtype=bool)
    air[2] = True
    depth = np.select([air, pruned == 1, pruned == 2], [0, 1, 3], 4).astype(np.uint8)
    importance = np.full((2, *grid.shape), np.nan, dtype=np.float32)
    importance[0, :2] = -np.arange(8.0).reshape(2, 2, 2) / 8
    importance[1][(depth > 1)] = -np.arange(6.0)
    ran = depth > np.arange(4).reshape(4, 1, 1, 1)
    confidence = np.where(air, np.nan, np.linspace(0.2, 1, 12).reshape(grid.shape))
    return TokenTrace(
        grid, "stp", (1, 3), air, importance, pruned, ran, confidence=confidence.astype(np.float32)
    )


def test_the_grid_covers_the_volume_and_its_affine_gives_the_centres_of_patches() -> None:
    """By hand: 2 mm voxels, the first at (10, 20, 30) mm, 8 x 8 x 8 patches.

    The first patch holds voxels 0 to 7, so its centre is at voxel 3.5: 10 + 3.5 * 2 = 17 mm.
    """
    affine = np.array([[2, 0, 0, 10], [0, 2, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1.0]])
    grid = TokenGrid.over((17, 16, 1), affine)

    assert (grid.shape, grid.patch, grid.size) == ((3, 2, 1), (8, 8, 8), 6)
    expected = [[16, 0, 0, 17], [0, 16, 0, 27], [0, 0, 16, 37], [0, 0, 0, 1]]
    np.testing.assert_array_equal(grid.affine, expected)


def test_patches_of_an_oblique_volume_lie_at_their_own_voxels() -> None:
    grid = TokenGrid.over((20, 20, 20), AFFINE, 5)

    for token in [(0, 0, 0), (2, 4, 3), (1, 0, 2)]:
        first = np.array(token) * 5
        corners = [AFFINE @ [*(first + far), 1] for far in (0, 4)]
        np.testing.assert_allclose(grid.affine @ [*token, 1], np.mean(corners, axis=0))


def test_counts_add_up(trace: TokenTrace) -> None:
    assert trace.counts() == {
        "total": 12, "air": 4, "kept": 5, "pruned": 3, "exited": 0, "reactivated": 0,
    }  # fmt: skip
    np.testing.assert_array_equal(trace.kept, trace.depth == 4)


def test_percentiles_rank_the_scored_tokens_of_each_stage(trace: TokenTrace) -> None:
    ranks = trace.percentile()

    np.testing.assert_array_equal(np.isnan(ranks), np.isnan(trace.importance))
    np.testing.assert_allclose(ranks[0, :2].ravel(), np.arange(7, -1, -1) / 7)
    assert (np.nanmin(ranks[1]), np.nanmax(ranks[1])) == (0, 1)


def test_a_saved_trace_comes_back(trace: TokenTrace, tmp_path: Path) -> None:
    trace.save(tmp_path / "new" / "trace")
    back = TokenTrace.load(tmp_path / "new" / "trace")

    files = set(os.listdir(tmp_path / "new" / "trace"))
    assert files == {*TRACE_FILES} - {"dependencies.npz"}
    assert (back.grid.shape, back.grid.patch) == (trace.grid.shape, trace.grid.patch)
    np.testing.assert_array_equal(back.grid.affine, AFFINE @ back_to_voxels())
    assert (back.stages, back.num_blocks) == (trace.stages, trace.num_blocks)
    assert (back.method, back.dependencies) == ("stp", ())
    for name in ("air", "importance", "left_stage", "ran", "depth", "confidence"):
        values, expected = getattr(back, name), getattr(trace, name)
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == expected.dtype


def test_a_trace_without_confidence_knows_none(trace: TokenTrace, tmp_path: Path) -> None:
    silent = replace(trace, confidence=np.empty(0, np.float32))
    silent.save(tmp_path)

    for unknown in (silent.confidence, TokenTrace.load(tmp_path).confidence):
        assert unknown.shape == trace.grid.shape
        assert np.isnan(unknown).all()


def with_dependencies(trace: TokenTrace) -> TokenTrace:
    """Add two windows; token 1 is in both and a query of the first only."""
    kept = np.array([[4, 1, 0], [2, 2, 4], [0, 0, 1]], dtype=np.uint8)
    one = Dependencies(np.array([0, 1, 4], dtype=np.int32), kept, heads=4)
    two = Dependencies(np.array([1, 5], dtype=np.int32), np.array([[0, 0], [3, 1]], np.uint8), 4)
    return replace(trace, method="apformer", dependencies=(one, two))


def test_a_query_attended_to_the_tokens_of_its_own_window(trace: TokenTrace) -> None:
    attended = with_dependencies(trace).attended(1)

    assert attended is not None
    shares = attended.ravel()
    np.testing.assert_allclose(shares[[0, 1, 4]], [0.5, 0.5, 1.0])
    assert np.isnan(np.delete(shares, [0, 1, 4])).all()
    assert with_dependencies(trace).attended(7) is None


def test_saved_dependencies_come_back_and_go_with_the_next_trace(
    trace: TokenTrace, tmp_path: Path
) -> None:
    first = with_dependencies(trace)
    first.save(tmp_path)
    back = TokenTrace.load(tmp_path)
    for token in range(trace.grid.size):
        mine, theirs = first.attended(token), back.attended(token)
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            np.testing.assert_array_equal(mine, theirs)

    trace.save(tmp_path, overwrite=True)
    assert not (tmp_path / "dependencies.npz").exists()
    assert TokenTrace.load(tmp_path).dependencies == ()


@pytest.mark.parametrize("token", [-1, 12])
def test_dependencies_outside_the_grid_are_refused(
    trace: TokenTrace, tmp_path: Path, token: int
) -> None:
    outside = Dependencies(np.array([token], np.int32), np.ones((1, 1), np.uint8), 4)
    replace(trace, dependencies=(outside,)).save(tmp_path)
    with pytest.raises(InputError, match="no complete trace"):
        TokenTrace.load(tmp_path)


def test_a_token_that_runs_again_after_a_skip_is_reactivated(trace: TokenTrace) -> None:
    """By hand: blocks 1, 3 of four (one return), 1 alone (none), 2 and 4 (two), none, all."""
    ran = np.zeros((4, *trace.grid.shape), dtype=bool)
    columns = {(0, 0, 0): "1010", (0, 0, 1): "1000", (0, 1, 0): "0101", (1, 0, 0): "1111"}
    for place, blocks in columns.items():
        ran[(slice(None), *place)] = [block == "1" for block in blocks]
    trace = replace(trace, method="svit", ran=ran)

    back = {place: int(trace.reactivations[place]) for place in columns}
    assert list(back.values()) == [1, 0, 2, 0]
    assert trace.reactivations.sum() == 3
    assert trace.counts()["reactivated"] == 2


def test_tokens_that_left_by_an_exit_are_counted_as_exited(trace: TokenTrace) -> None:
    counts = replace(trace, method="dtop").counts()

    assert (counts["exited"], counts["pruned"]) == (3, 0)


def back_to_voxels() -> np.ndarray:
    return np.array([[8, 0, 0, 3.5], [0, 8, 0, 3.5], [0, 0, 8, 3.5], [0, 0, 0, 1]])


def test_the_maps_on_disk_lie_where_the_tokens_are(trace: TokenTrace, tmp_path: Path) -> None:
    trace.save(tmp_path)
    maps = {
        name: nib.Nifti1Image.from_filename(tmp_path / f"{name}.nii.gz")
        for name in ("importance", "kept", "depth", "confidence")
    }

    for image in maps.values():
        np.testing.assert_allclose(image.affine, trace.grid.affine, atol=1e-5)
        assert image.get_sform(coded=True)[1] == 1
        np.testing.assert_allclose(image.header.get_zooms()[:3], 16, rtol=1e-6)  # in millimetres
    assert maps["importance"].shape == (3, 2, 2, 2)
    np.testing.assert_array_equal(maps["importance"].get_fdata()[..., 1], trace.importance[1])
    np.testing.assert_array_equal(maps["kept"].get_fdata(), trace.kept)
    np.testing.assert_array_equal(maps["depth"].get_fdata(), trace.depth)
    np.testing.assert_array_equal(maps["confidence"].get_fdata(), trace.confidence)
    facts = json.loads((tmp_path / "trace.json").read_text())
    assert facts["tokens"] == trace.counts()
    assert facts["grid"]["affine"] == trace.grid.affine.tolist()


def test_an_older_trace_is_replaced_only_when_asked(trace: TokenTrace, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    trace.save(tmp_path)
    before = snapshot(tmp_path)
    other = replace(trace, ran=np.ones_like(trace.ran))
    with pytest.raises(OutputError, match="already holds a trace") as caught:
        other.save(tmp_path)
    assert_sentence(caught.value)
    assert snapshot(tmp_path) == before

    other.save(tmp_path, overwrite=True)
    assert (TokenTrace.load(tmp_path).depth == 4).all()
    expected = {*TRACE_FILES, "notes.txt"} - {"dependencies.npz"}
    assert set(os.listdir(tmp_path)) == expected


@pytest.mark.parametrize("name", TRACE_FILES)
def test_a_part_of_an_older_trace_is_not_replaced_either(
    trace: TokenTrace, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=name):
        trace.save(tmp_path)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


@contextmanager
def small_files() -> Iterator[None]:
    """Let no file grow past 300 bytes, as on a disk that fills up."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_up_leaves_nothing_behind(trace: TokenTrace, tmp_path: Path) -> None:
    trace.save(tmp_path / "old")
    before = snapshot(tmp_path)

    for folder in ("old", "new/deeper"):
        with small_files(), pytest.raises(OutputError, match="cannot be written") as caught:
            trace.save(tmp_path / folder, overwrite=True)
        assert_sentence(caught.value)
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize("failure", [PermissionError(errno.EACCES, "denied"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(
    trace: TokenTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(nib, "save", fail)
    expected = OutputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        trace.save(tmp_path / "new" / "trace")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_is_named(trace: TokenTrace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file") as caught:
        trace.save(tmp_path / "file")
    assert_sentence(caught.value)


def no_json(folder: Path) -> None:
    (folder / "trace.json").unlink()


def other_json(folder: Path) -> None:
    (folder / "trace.json").write_text("[1, 2]")


def cut_map(folder: Path) -> None:
    path = folder / "importance.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])


def other_map(folder: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4)), folder / "blocks.nii.gz"
    )


def other_confidence(folder: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 2, 1), dtype=np.float32), np.eye(4))
    nib.save(image, folder / "confidence.nii.gz")


def older_format(folder: Path) -> None:
    facts = json.loads((folder / "trace.json").read_text())
    (folder / "trace.json").write_text(json.dumps(facts | {"format": 2}))


def no_image(folder: Path) -> None:
    (folder / "blocks.nii.gz").write_bytes(b"no image")


@settings(deadline=None)
@given(where=st.floats(0, 0.999), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_anywhere_gives_a_trace_or_a_sentence(
    large_trace: Path, where: float, bit: int, cut: bool
) -> None:
    """What only the checksum of a gzip file would tell is not noticed."""
    path = large_trace / "importance.nii.gz"
    content = path.read_bytes()
    at = int(where * len(content))
    flipped = bytes([*content[:at], content[at] ^ (1 << bit), *content[at + 1 :]])
    path.write_bytes(content[:at] if cut else flipped)
    try:
        back = TokenTrace.load(large_trace)
        assert not cut
        assert back.importance.shape == (2, 12, 12, 12)
    except InputError as error:
        assert_sentence(error)
    finally:
        path.write_bytes(content)


@pytest.fixture(scope="module")
def large_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a trace whose scores fill more than the first read of a file."""
    grid = TokenGrid.over((96, 96, 96), AFFINE)
    none = np.zeros(grid.shape, dtype=np.uint8)
    scores = np.random.default_rng(0).normal(size=(2, *grid.shape)).astype(np.float32)
    folder = tmp_path_factory.mktemp("large")
    ran = np.ones((4, *grid.shape), dtype=bool)
    TokenTrace(grid, "stp", (1, 3), none.astype(bool), scores, none, ran).save(folder)
    return folder


@pytest.mark.parametrize(
    "damage",
    [no_json, other_json, cut_map, other_map, other_confidence, older_format, no_image],
)
def test_a_damaged_trace_is_refused_in_one_sentence(
    trace: TokenTrace, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    trace.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match="no complete trace") as caught:
        TokenTrace.load(tmp_path)
    assert_sentence(caught.value)
