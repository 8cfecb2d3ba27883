"""Spoilt scans of every kind through the models, other contrasts, and the tissue maps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.quality import robustness, tissue
from benchmarks.quality.cases import Case, held_out_config, synthetic_heads
from benchmarks.quality.contrasts import CONTRASTS, heads_in
from benchmarks.quality.robustness import CONDITIONS
from benchmarks.quality.tissue import GREY, MIXED, WHITE, tissue_dice
from napari_sparseseg.files import read_volume
from napari_sparseseg.plugin.sample import template_path
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.training.anatomy import STRUCTURES, load_anatomy
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser, TissueMeans
from napari_sparseseg.volume import Volume
from tests.quality.tiny import case_set, make_model, make_scan
from tests.training.conftest import WINDOW, label_map

__all__ = ["label_map"]

NAMES = list(STRUCTURES)


@pytest.fixture(scope="module")
def heads(label_map: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One held-out head, in a folder as of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "brain-labels").mkdir()
    name = f"training_{held_out_config().validation[0]}.nii.gz"
    (folder / "brain-labels" / name).write_bytes(label_map.read_bytes())
    return folder


# Contrasts


def test_each_contrast_has_the_order_that_it_is_known_for() -> None:
    t2, flair, pd = (CONTRASTS[f"{name}-like"] for name in ("T2", "FLAIR", "PD"))

    assert t2.fluid > t2.grey > t2.white
    assert flair.grey > flair.white > flair.fluid
    assert pd.grey > pd.white
    assert abs(pd.fluid - pd.grey) < pd.grey - pd.white


def test_a_contrast_changes_intensities_and_nothing_else(heads: Path) -> None:
    scans = heads_in(CONTRASTS["T2-like"], heads)
    cases = synthetic_heads(heads)

    assert tuple(scans) == cases.names
    for case in cases:
        other = scans[case.name]
        np.testing.assert_array_equal(other.affine, case.volume.affine)
        names = ["cerebral cortex", "cerebral white matter"]
        if (case.truth == NAMES.index("CSF")).any():  # it may be stripped away with the skull
            names.insert(0, "CSF")
        mine, reference = (
            [float(np.median(volume.data[case.truth == NAMES.index(name)])) for name in names]
            for volume in (other, case.volume)
        )
        assert mine == sorted(mine, reverse=True)
        assert reference == sorted(reference)


def test_fixed_means_leave_every_other_draw_as_it_was(label_map: Path) -> None:
    """The labels are the same, and the figures are those of the generator before it had means."""
    anatomy = load_anatomy([label_map])
    fixed = TissueMeans(grey=0.6, white=0.4, fluid=1.0)
    drawn, given = (
        Synthesiser(anatomy, SynthesisConfig(WINDOW, means=means)) for means in (None, fixed)
    )
    for _ in range(3):
        one, other = drawn.draw(), given.draw()
        assert torch.equal(one.subvoxels, other.subvoxels)
        assert not torch.equal(one.image, other.image)
    assert drawn.rng.bit_generator.state == given.rng.bit_generator.state
    assert float(one.image.mean()) == pytest.approx(0.3133889, rel=1e-5)
    assert float(one.image.std()) == pytest.approx(0.3429784, rel=1e-5)


# Conditions


def test_the_conditions_are_those_that_the_page_names() -> None:
    names = {kind: [(c.name, c.level) for c in every] for kind, every in CONDITIONS.items()}

    levels = ("1", "2", "3")
    assert names["mr"] == [
        *(("noise", level) for level in levels),
        *(("bias", level) for level in levels),
        ("thick slices", ""),
    ]
    assert names["ct"] == [
        *(("low dose", level) for level in levels),
        *((f"shift {units} HU", "") for units in ("-40", "-20", "+20", "+40")),
    ]


@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_higher_level_changes_more(kind: str) -> None:
    data = np.random.default_rng(0).normal(40, 5, (20, 20, 20)).clip(1, 79).astype(np.float32)
    scan = Volume(data, np.eye(4), "scan")
    changes: dict[str, list[float]] = {}
    for condition in CONDITIONS[kind]:  # type: ignore[index]
        spoilt = condition.spoil(scan, 0)
        if spoilt.shape == scan.shape:
            change = float(np.abs(spoilt.data - scan.data).mean())
            changes.setdefault(condition.name, []).append(change)

    for every in changes.values():
        assert sorted(every) == every
        assert every[0] > 0


def test_every_model_meets_every_condition_on_every_test_scan(tmp_path: Path) -> None:
    """The truth is what the dense model says of the scan as it is."""
    infos = [make_model(tmp_path, method) for method in ("dense", "stp", "dtop")]
    scan = make_scan()
    truth = Segmenter(infos[0]).segment(scan).labels.data
    cases = {
        "test": case_set(Case("one", scan, truth), Case("two", scan, truth)),
        "validation": case_set(Case("three", scan, truth)),
    }
    rows = robustness.measure("hippocampus-mr", infos, tmp_path, cases)

    found = {(row["model"], row["condition"], row["level"], row["case"]) for row in rows}
    assert found == {
        (info.name, condition.name, condition.level, case)
        for info in infos
        for condition in CONDITIONS["mr"]
        for case in ("one", "two")
    }
    assert len(rows) == len(found)
    settings = {row["model"]: (row["ratio"], row["setting"]) for row in rows}
    assert settings == {
        "tiny-dense": (1.0, None),
        "tiny-stp": (0.5, 0.5),
        "tiny-dtop": (None, 0.5),
    }
    dense = [row for row in rows if row["model"] == "tiny-dense"]
    assert all(row["reference"] == [1, 1] for row in dense)
    assert all(row["dice"] != [1, 1] and row["about"] for row in dense)
    noise = {row["case"]: row["dice"] for row in dense if row["condition"] == "noise"}
    assert noise["one"] != noise["two"]  # each scan has noise of its own


def test_heads_are_drawn_in_other_contrasts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = make_model(tmp_path, "dense")
    scan = make_scan()
    inverse = Volume(np.where(scan.data > 0, 500 - scan.data, 0), scan.affine, "inverse")
    truth = Segmenter(info).segment(inverse).labels.data
    monkeypatch.setattr(robustness, "heads_in", lambda means, data: {"head": inverse})
    monkeypatch.setattr(robustness, "CONDITIONS", {"mr": ()})
    cases = {name: case_set(Case(name, scan, truth)) for name in ("test", "head")}
    cases["validation"] = cases.pop("head")
    rows = robustness.measure("brain-mr", [info], tmp_path, cases)

    assert [(row["condition"], row["case"]) for row in rows] == [
        (name, "head") for name in CONTRASTS
    ]
    assert all(row["dice"] == [1, 1] != row["reference"] for row in rows)
    assert rows[0]["about"] == "grey 0.60, white 0.42, fluid 1.00"


# Tissue maps


def test_dice_of_the_tissues_worked_by_hand() -> None:
    """Of eight voxels the seventh is brain-stem and the last lies outside the brain.

    Grey: found in 2, true in 3, common to 2. White: found in 3, true in 3, common to 2.
    """
    cortex, white, stem, fluid = (
        NAMES.index(name)
        for name in ("cerebral cortex", "cerebral white matter", "brain-stem", "CSF")
    )
    thalamus, cerebellum = NAMES.index("thalamus"), NAMES.index("cerebellum white matter")
    labels = np.array([cortex, thalamus, white, white, cerebellum, fluid, stem, cortex])
    is_grey = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    is_white = np.array([0, 0, 0, 1, 1, 1, 1, 0], dtype=bool)
    brain = np.array([1] * 7 + [0], dtype=bool)
    found = tissue_dice(
        *(a.reshape(2, 2, 2) for a in (labels, is_grey, is_white, brain)),
    )

    assert found == pytest.approx({"grey": 4 / 5, "white": 4 / 6}, abs=1e-5)


def test_every_structure_is_grey_white_mixed_or_fluid() -> None:
    fluid = {"lateral ventricle", "3rd ventricle", "4th ventricle", "CSF"}
    kinds = [set(GREY), set(WHITE), set(MIXED), fluid, {"background"}]

    assert set().union(*kinds) == set(NAMES)
    assert sum(map(len, kinds)) == len(NAMES)


def test_the_template_and_its_maps_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that labels the template by its own maps gets full marks."""
    path = template_path()

    class ByMaps:
        control = None

        def __init__(self, info: Any) -> None: ...

        def segment(self, scan: Volume) -> Any:
            grey, white = (
                read_volume(path.with_name(path.name.replace("t1", name))).data / 255 > 0.5
                for name in ("gm", "wm")
            )
            assert scan.shape == grey.shape
            labels = np.select(
                [grey, white], [NAMES.index("putamen"), NAMES.index("cerebellum white matter")]
            )
            return SimpleNamespace(labels=Volume(labels, scan.affine))

    monkeypatch.setattr(tissue, "Segmenter", ByMaps)
    info = make_model(tmp_path, "dense")
    (row,) = tissue.measure("brain-mr", [info], tmp_path, {})

    assert row == {
        "model": "tiny-dense",
        "setting": None,
        "case": "ICBM152",
        "grey": 1.0,
        "white": 1.0,
    }
    assert tissue.measure("headneck-ct", [info], tmp_path, {}) == []
