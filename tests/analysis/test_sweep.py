"""One scan at many settings: what is run, what is counted, what is proposed, what is written."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from napari_sparseseg.analysis.sweep import (
    RATIOS,
    SWEEP_FILES,
    Sweep,
    SweepPoint,
    default_settings,
    sweep,
    write_sweep,
)
from napari_sparseseg.errors import Cancelled, InputError, OutputError
from napari_sparseseg.methods import METHODS
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Segmentation, Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo
from tests.analysis.sweeps import point, swept
from tests.engine.checks import files_up_to, snapshot
from tests.quality.tiny import make_model, make_scan

Results = dict[tuple[str, float], Segmentation]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scan() -> Volume:
    return make_scan()


@pytest.fixture(scope="module")
def stp(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return make_model(tmp_path_factory.mktemp("stp"), "stp")


@pytest.fixture(scope="module")
def session(stp: ModelInfo, scan: Volume, one_thread: None) -> Iterator[Session]:
    with Segmenter(stp, "cpu", "float32").open(scan) as session:
        yield session


@pytest.fixture(scope="module")
def reference(scan: Volume) -> Volume:
    """Truth that holds the first structure alone, as a tool might store it: in floats."""
    labels = np.zeros(scan.shape, dtype=np.float64)
    labels[5:25, 6:30, 4:20] = 1
    return Volume(labels, scan.affine, "truth")


@pytest.fixture(scope="module")
def results() -> Results:
    """Results of the sweep below, by the rule that decided and the setting."""
    return {}


@pytest.fixture(scope="module")
def done(session: Session, reference: Volume, results: Results) -> Sweep:
    def keep(point: SweepPoint, result: Segmentation) -> None:
        results[point.sparsifier, point.setting] = result

    return sweep(session, [0.3, 1, 0.7, 0.3], reference=reference, on_result=keep)


def dice(one: np.ndarray, other: np.ndarray, label: int) -> float:
    mine, theirs = one == label, other == label
    return 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())


# What is run and counted


@pytest.mark.parametrize("sparsifier", ["stp", "random"])
@pytest.mark.parametrize("setting", [0.3, 0.7])
def test_a_sweep_gives_what_separate_runs_give(
    done: Sweep, results: Results, stp: ModelInfo, scan: Volume, sparsifier: str, setting: float
) -> None:
    alone = Segmenter(stp, "cpu", "float32", sparsifier).segment(scan, setting)

    np.testing.assert_array_equal(results[sparsifier, setting].labels.data, alone.labels.data)
    points = done.points if sparsifier == "stp" else done.random
    (found,) = (p for p in points if p.setting == setting)
    assert found.tokens == alone.report["tokens"]
    assert found.gmacs == alone.report["gmacs"]["run"]
    assert done.dense_gmacs == alone.report["gmacs"]["dense"]


def test_dice_is_against_the_run_at_1_and_against_the_reference(
    done: Sweep, results: Results, reference: Volume
) -> None:
    dense = results["stp", 1.0].labels.data
    for found in (*done.points[1:], *done.random[1:]):
        labels = results[found.sparsifier, found.setting].labels.data
        expected = [dice(labels, dense, 1), dice(labels, dense, 2)]
        assert found.dice_to_dense == pytest.approx(expected, abs=1e-5)
        assert found.mean_to_dense == pytest.approx(np.mean(expected), abs=1e-5)
        true = dice(labels, reference.data, 1)
        assert found.dice_to_reference == (pytest.approx(true, abs=1e-5), None)
        assert found.mean_to_reference == pytest.approx(true, abs=1e-5)
        assert 0 < found.mean_to_dense < 1  # else nothing was compared
    assert done.points[0].dice_to_dense == (1.0, 1.0)
    assert done.has_reference


def test_1_comes_first_and_every_setting_once(done: Sweep, results: Results) -> None:
    assert [p.setting for p in done.points] == [1.0, 0.3, 0.7]
    assert [p.setting for p in done.random] == [1.0, 0.3, 0.7]
    assert {p.sparsifier for p in done.random} == {"random"}
    # at 1 nothing is left out, so that there is nothing to draw
    assert sorted(results) == [
        ("random", 0.3), ("random", 0.7), ("stp", 0.3), ("stp", 0.7), ("stp", 1.0)
    ]  # fmt: skip


def test_the_time_is_what_follows_the_first_stage(done: Sweep, results: Results) -> None:
    for found in done.points:
        seconds = results["stp", found.setting].report["seconds"]
        assert found.seconds == pytest.approx(seconds["sparse_network"] + seconds["restore"])
        assert found.seconds > 0


def test_the_facts_are_those_of_the_runs(done: Sweep, stp: ModelInfo) -> None:
    assert (done.model, done.method, done.control) == ("tiny-stp", "stp", "keep ratio")
    assert done.classes == ("one", "two")
    assert done.facts["device"] == "cpu" and done.facts["precision"] == "float32"
    assert len(done.facts["weights_sha256"]) == 64
    assert done.facts["volume"]["shape"] == [30, 41, 26]
    assert done.facts["notice"] == "Research use only, not for diagnosis."
    assert done.facts["seed"] == 0 and "torch" in done.facts["versions"]


def test_random_draws_by_its_seed_and_can_be_left_out(session: Session, done: Sweep) -> None:
    again = sweep(session, [0.3])
    other = sweep(session, [0.3], seed=1)

    (first,) = (p for p in done.random if p.setting == 0.3)
    assert again.random[1].dice_to_dense == first.dice_to_dense
    assert other.random[1].dice_to_dense != first.dice_to_dense
    assert other.random[1].tokens == first.tokens
    assert other.points[1].dice_to_dense == again.points[1].dice_to_dense
    assert sweep(session, [0.3], random=False).random == ()
    assert not again.has_reference and again.points[1].dice_to_reference is None


def test_a_session_of_the_random_control_is_its_own(stp: ModelInfo, scan: Volume) -> None:
    with Segmenter(stp, "cpu", "float32", "random").open(scan) as session:
        found = sweep(session, [0.5])

    assert [p.sparsifier for p in found.points] == ["random", "random"]
    assert found.random == ()


def test_a_method_with_a_threshold_is_swept_over_it(tmp_path: Path, scan: Volume) -> None:
    info = make_model(tmp_path, "dtop")
    with Segmenter(info, "cpu", "float32").open(scan) as session:
        found = sweep(session)

    assert found.control == "exit threshold"
    assert [p.setting for p in found.points] == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    exited = [p.tokens["exited"] for p in found.points]
    assert exited == sorted(exited) and exited[-1] > exited[0] == 0


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("stp", RATIOS),
        ("svit", RATIOS),
        ("random", RATIOS),
        ("dtop", (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)),
        ("apformer", (1.0, 0.81, 0.62, 0.43, 0.24, 0.05)),
    ],
)
def test_default_settings(method: str, expected: tuple[float, ...]) -> None:
    control = METHODS[method].control
    assert control is not None

    assert default_settings(control) == expected


def test_progress_runs_once_from_start_to_end(session: Session) -> None:
    told: list[tuple[int, int, str]] = []
    sweep(session, [0.5], progress=lambda *step: told.append(step))

    done = [step[0] for step in told]
    assert done[0] == 0 and done == sorted(done)
    assert {step[1] for step in told} == {done[-1]}
    assert told[0][2] == "Run 1 of 4"  # the first only prepares the processor
    assert told[-1][2] == "Run 4 of 4"


def test_a_cancelled_sweep_stops_and_leaves_the_session_usable(session: Session) -> None:
    cancel = CancelToken()
    seen: list[float] = []

    def stop_at_second(point: SweepPoint, _: Segmentation) -> None:
        seen.append(point.setting)
        if len(seen) == 2:
            cancel.cancel()

    with pytest.raises(Cancelled):
        sweep(session, [0.7, 0.5, 0.3], on_result=stop_at_second, cancel=cancel)

    assert seen == [1.0, 0.7]
    assert session.run(0.5).labels.data.any()


# What is refused


@pytest.mark.parametrize("setting", [0.0, -0.5, 1.01, float("nan")])
def test_a_setting_out_of_range_is_refused_before_any_run(session: Session, setting: float) -> None:
    seen: list[float] = []
    with pytest.raises(InputError, match=r"keep ratio .* is out of range"):
        sweep(session, [0.5, setting], on_result=lambda p, _: seen.append(p.setting))
    assert seen == []


def test_a_model_without_a_setting_is_refused(tmp_path: Path, scan: Volume) -> None:
    session = Segmenter(make_model(tmp_path, "dense"), "cpu", "float32").open(scan)
    with session, pytest.raises(InputError, match="no setting to sweep"):
        sweep(session)


@pytest.mark.parametrize("spoil", ["moved", "cut", "unknown label"])
def test_a_reference_that_cannot_be_used_is_refused(
    session: Session, reference: Volume, spoil: str
) -> None:
    moved = reference.affine.copy()
    moved[0, 3] += 1
    spoiled = {
        "moved": replace(reference, affine=moved),
        "cut": replace(reference, data=reference.data[1:]),
        "unknown label": replace(reference, data=reference.data * 7),
    }[spoil]

    with pytest.raises(InputError, match="truth"):
        sweep(session, [0.5], reference=spoiled)


# What is proposed


def test_a_worked_proposal() -> None:
    """Means 0.900, 0.898, 0.895, 0.880, 0.896 and 0.700: the loss need not grow evenly."""
    found = swept(
        [
            point(1.0, [0.92, 0.88]),
            point(0.7, [0.91, 0.886]),
            point(0.5, [0.9, 0.89]),
            point(0.3, [0.88, 0.88]),
            point(0.2, [0.912, 0.88]),
            point(0.1, [0.7, None]),
        ]
    )

    assert found.propose(0.005).setting == 0.2
    assert found.propose(0.0039).setting == 0.7
    assert found.propose(0.0).setting == 1.0
    assert found.propose(0.2).setting == 0.1
    assert found.propose(float("inf")).setting == 0.1


def test_a_loss_of_exactly_the_tolerance_is_within_it() -> None:
    """In binary, 0.9 - 0.005 is more than 0.895."""
    assert swept([point(1.0, [0.9]), point(0.5, [0.895])]).propose(0.005).setting == 0.5


def test_the_reference_counts_where_there_is_one() -> None:
    found = swept([point(1.0, [1.0], [0.8]), point(0.5, [0.7], [0.82]), point(0.2, [0.9], [0.7])])

    assert found.propose(0.0).setting == 0.5


def test_the_order_of_the_settings_does_not_count() -> None:
    found = swept([point(1.0, [1.0]), point(0.2, [0.999]), point(0.7, [0.999])])

    assert found.propose(0.01).setting == 0.2


def test_without_structures_nothing_is_proposed_away() -> None:
    found = swept([point(1.0, [None, None]), point(0.5, [None, None])])

    assert found.propose(0.5).setting == 1.0
    assert found.points[0].mean_to_dense is None


@pytest.mark.parametrize("tolerance", [-0.001, float("nan")])
def test_a_tolerance_that_means_nothing_is_refused(tolerance: float) -> None:
    with pytest.raises(InputError, match="tolerance"):
        swept([point(1.0, [1.0])]).propose(tolerance)


@given(
    st.lists(st.tuples(st.integers(1, 99), st.integers(0, 100)), max_size=8),
    st.integers(0, 60),
)
def test_nothing_smaller_than_the_proposal_is_within_the_tolerance(
    others: list[tuple[int, int]], tolerance: int
) -> None:
    """In hundredths, where whole numbers tell without rounding."""
    points = [(100, 70), *others]
    found = swept([point(s / 100, [d / 100]) for s, d in points]).propose(tolerance / 100)

    within = [s for s, d in points if d >= 70 - tolerance]
    assert round(100 * found.setting) == min(within)


# What is written


def read_csv(folder: Path) -> list[dict[str, str]]:
    with open(folder / "sweep.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_holds_what_the_json_holds(done: Sweep, tmp_path: Path) -> None:
    write_sweep(done, tmp_path / "new" / "sweep")

    folder = tmp_path / "new" / "sweep"
    assert sorted(p.name for p in folder.iterdir()) == sorted(SWEEP_FILES)
    facts = json.loads((folder / "sweep.json").read_text())
    assert facts == done.to_dict()
    assert facts["facts"]["notice"] == "Research use only, not for diagnosis."
    rows = read_csv(folder)
    entries = facts["points"] + facts["random"]
    assert len(rows) == len(entries) == 6
    for row, entry in zip(rows, entries, strict=True):
        expected = {
            key: entry[key]
            for key in (
                "sparsifier", "setting", "mean_to_dense", "mean_to_reference", "seconds", "gmacs"
            )
        }  # fmt: skip
        expected |= {f"tokens {name}": count for name, count in entry["tokens"].items()}
        for which in ("dice_to_dense", "dice_to_reference"):
            for name, value in zip(facts["classes"], entry[which], strict=True):
                expected[f"{which} {name}"] = value
        assert row == {k: "" if v is None else str(v) for k, v in expected.items()}


def test_the_picture_has_something_in_each_panel(done: Sweep, tmp_path: Path) -> None:
    write_sweep(done, tmp_path, proposed=0.3)

    picture = imread(tmp_path / "sweep.png")
    height, width, _ = picture.shape
    assert width == 1800 and 400 < height < 700
    blue = (picture[..., 2] > 0.6) & (picture[..., 0] < 0.2)  # the own rule; above it, the legend
    panels = np.array_split(blue[height // 7 :], 3, axis=1)
    assert all(panel.sum() > 500 for panel in panels)


def test_without_a_reference_its_cells_are_empty(tmp_path: Path) -> None:
    write_sweep(swept([point(1.0, [1.0, None])]), tmp_path)

    (row,) = read_csv(tmp_path)
    assert row["dice_to_dense two"] == row["mean_to_reference"] == ""
    assert row["dice_to_reference one"] == ""
    assert (
        json.loads((tmp_path / "sweep.json").read_text())["points"][0]["dice_to_reference"] is None
    )


MADE_UP = swept([point(1.0, [1.0, 1.0]), point(0.5, [0.9, 0.8])])


def mine(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder.mkdir(), (folder / name).write_text("mine"))  # type: ignore


@pytest.mark.parametrize(
    ("prepare", "match"),
    [
        *((mine(name), "exists already") for name in SWEEP_FILES),
        (lambda folder: folder.write_text("a file in the way"), "not an existing folder"),
    ],
    ids=[*SWEEP_FILES, "file"],
)
def test_what_is_in_the_way_is_left_alone(
    tmp_path: Path, prepare: Callable[[Path], None], match: str
) -> None:
    prepare(tmp_path / "out")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match=match):
        write_sweep(MADE_UP, tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_a_folder_in_the_place_of_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out" / "sweep.png").mkdir(parents=True)
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="is a folder"):
        write_sweep(MADE_UP, tmp_path / "out", overwrite=True)
    assert snapshot(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_one_sentence() -> None:
    with pytest.raises(OutputError, match=r"^/proc/new cannot be written: .*\.$"):
        write_sweep(MADE_UP, Path("/proc/new"))


@pytest.mark.parametrize("old", [False, True], ids=["new folder", "old files"])
def test_a_picture_that_fails_takes_the_tables_back(tmp_path: Path, old: bool) -> None:
    """It is the largest and the last."""
    folder = tmp_path / "a" / "b"
    if old:
        write_sweep(swept([point(1.0, [0.5, 0.5])]), folder)
    before = snapshot(tmp_path)
    with files_up_to(10_000), pytest.raises(OutputError, match=r"sweep\.png"):
        write_sweep(MADE_UP, folder, overwrite=True)
    assert snapshot(tmp_path) == before


def test_older_files_are_replaced_when_asked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_sweep(swept([point(1.0, [0.5, 0.5])]), tmp_path)
    older = snapshot(tmp_path)
    write_sweep(MADE_UP, tmp_path, overwrite=True)

    newer = snapshot(tmp_path)
    assert {Path(name).name for name in older if older[name] != newer[name]} == {*SWEEP_FILES}
    assert newer.keys() == older.keys()


def test_importing_loads_neither_torch_nor_matplotlib() -> None:
    code = """
import sys
import napari_sparseseg.analysis.curve, napari_sparseseg.analysis.sweep
print([name for name in ("torch", "monai", "matplotlib", "SimpleITK") if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout == "[]\n"
