"""The benchmark's arithmetic, its phantoms and its page; no test here asserts a time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from monai.networks.nets import UNETR

from benchmarks import floor, fresh, growth, page, parts, speed, targets, timing
from benchmarks.ablation import Variant, cumulative, one_off, rows_of
from benchmarks.arms import ARMS, MonaiArm
from benchmarks.bench import Bench, mean_dice
from benchmarks.curves import OVERLAPS, RATIOS
from benchmarks.volumes import AIR, Case, head_scan, tile, tissue_share
from benchmarks.wall import verdicts
from napari_sparseseg.means import Means
from napari_sparseseg.training.anatomy import STRUCTURES
from napari_sparseseg.training.tasks import TASKS
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo, save_model
from tests.network.conftest import make_network, small_config

SIDE = 40
WHITE, FLUID = (list(STRUCTURES).index(name) for name in ("cerebral white matter", "CSF"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White matter in the right half of a cube of fluid in bone, at 1 mm, axes R-A-S."""
    labels = np.zeros((SIDE + 6, SIDE + 2, SIDE), dtype=np.float32)
    labels[2:-2, 2:-2, 2:-2] = 502
    labels[6:-6, 6:-6, 6:-6] = 24
    labels[30:36, 10:30, 10:30] = 2
    path = tmp_path_factory.mktemp("labels") / "head.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    return path


def box(bright: tuple[int, ...], size: int = 32, spacing: float = 2.0) -> Case:
    """A cube of 0 with one voxel of 5."""
    data = np.zeros((size,) * 3, dtype=np.int16)
    data[bright] = 5
    return Case("box", "box", Volume(data, np.diag([spacing] * 3 + [1.0])), data > 0)


class TestTiming:
    def test_arms_take_turns_after_a_warm_up_and_slow_ones_stop_early(self) -> None:
        calls: list[str] = []
        actions = {name: partial(calls.append, name) for name in "abc"}
        warm_up = {"c": partial(calls.append, "C")}

        timed = [
            row[0] for row in timing.alternate(actions, {"a": 3, "b": 1, "c": 2}, "cpu", warm_up)
        ]

        assert timed == ["a", "b", "c", "a", "c", "a"]
        assert calls == ["a", "b", "C", *timed]

    def test_an_action_gives_its_result_and_a_caller_may_work_in_between(self) -> None:
        rows = list(timing.alternate({"a": lambda: 7}, 2))

        assert [(name, result) for name, _, result in rows] == [("a", 7), ("a", 7)]
        assert all(seconds >= 0 for _, seconds, _ in rows)

    def test_spread_and_ratio_are_those_of_medians(self) -> None:
        slow, fast = timing.spread([9.0, 6.0, 5.0]), timing.spread([1.0, 2.0, 40.0, 2.0])

        assert slow == {"median": 6.0, "min": 5.0, "max": 9.0, "repeats": 3}
        assert fast["max"] == 40.0
        assert timing.ratio(slow, fast) == 3.0

    def test_parts_are_medians_and_the_network_is_what_is_not_around_it(self) -> None:
        reports = [
            {"seconds": {"total": 9.0, "preprocess": p, "encode": e, "decode": 0.5, "restore": 4.0}}
            for p, e in ((1.0, 2.0), (3.0, 4.0), (2.0, 9.0))
        ]

        found = timing.median_parts(reports)

        assert found["preprocess"] == 2.0
        assert found["encode"] == 4.0
        assert timing.network_seconds(found) == 4.5
        assert parts.shares({"total": 8.0, "a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}


class TestFigures:
    def test_a_line_is_fitted_by_least_squares(self) -> None:
        exact = growth.fit_line([0, 1, 2], [1, 3, 5])
        loose = growth.fit_line([0, 1, 2, 3], [0, 2, 1, 3])

        assert exact == pytest.approx({"slope": 2.0, "intercept": 1.0, "r2": 1.0})
        assert loose == pytest.approx({"slope": 0.8, "intercept": 0.3, "r2": 0.64})
        assert growth.fit_line([0, 1], [2, 2])["r2"] == 0

    @pytest.mark.parametrize(
        ("target", "value", "met"),
        [
            (targets.DENSE_TWIN, 3.0, True),
            (targets.DENSE_TWIN, 2.999, False),
            (targets.MEMORY, 0.5, True),
            (targets.MEMORY, 0.501, False),
            (targets.TRACE, 0.97, True),
            (targets.DICE_LOST, -2.0, True),
        ],
    )
    def test_a_limit_itself_is_kept(self, target: targets.Target, value: float, met: bool) -> None:
        verdict = target.judge(value)

        assert verdict["met"] is met
        assert verdict["value"] == value

    def test_arms_are_judged_against_the_sparse_one(self) -> None:
        rows: dict[str, dict[str, Any]] = {
            name: {"seconds": timing.spread([seconds])}
            for name, seconds in zip(ARMS, (2.0, 7.0, 3.0, 48.0, 9.0), strict=True)
        }
        rows["sparse"]["dice"], rows["dense_twin"]["dice"] = 0.80, 0.81

        found = verdicts(rows)

        assert [v["value"] for v in found] == [3.5, 1.0, 24.0, 4.5]
        assert [v["met"] for v in found] == [True, False, False, True]

    def test_a_floor_is_the_longer_of_operations_and_bytes(self) -> None:
        rates = {"operations": 100.0, "bytes": 10.0}

        assert floor.floor_of({"operations": 50.0, "bytes": 20.0}, 6.0, rates)["floor"] == 2.0
        found = floor.floor_of({"operations": 500.0, "bytes": 20.0}, 6.0, rates)
        assert (found["floor"], found["times"]) == (5.0, 1.2)

    def test_dice_is_the_mean_of_the_structures_that_are_there(self) -> None:
        truth, labels = (np.zeros((9, 9, 9), dtype=np.uint8) for _ in range(2))
        # 2 of 4 and 4, two of them far outside what is true: 0.5
        truth[2, 2, :4], labels[2, 2, 2:4], labels[8, 8, 7:9] = 1, 1, 1
        truth[5, 5, 5] = labels[5, 5, 5] = 2  # 1.0

        assert mean_dice(labels, truth, 4) == 0.75
        assert np.isnan(mean_dice(truth * 0, truth * 0, 4))

    def test_the_memory_of_a_process_is_read(self) -> None:
        assert fresh.process_megabytes("VmHWM") >= fresh.process_megabytes("VmRSS") * 0.5 > 1


class TestScans:
    def test_a_head_lies_in_the_middle_of_a_field_of_air_with_its_labels(
        self, label_map: Path
    ) -> None:
        case = head_scan(label_map, 0.5, (160, 128, 96))
        data, truth = case.volume.data, case.truth

        assert data.dtype == np.int16
        assert data.shape == truth.shape == (160, 128, 96)
        assert case.volume.spacing == (0.5, 0.5, 0.5)
        assert case.volume.orientation == "LPS"
        # the map holds 42 x 38 x 36 voxels of bone and what is in it
        head = np.argwhere(data > AIR)
        assert head.min(axis=0).tolist() == [38, 26, 12]
        assert (head.max(axis=0) + 1).tolist() == [122, 102, 84]
        assert data.min() == AIR
        # 6 x 20 x 20 mm of white matter: 8 voxels to a mm^3
        assert (truth == WHITE).sum() == 8 * 6 * 20 * 20
        assert (truth == FLUID).sum() == 8 * (34 * 30 * 28 - 6 * 20 * 20)
        assert data[truth == WHITE].mean() > data[truth == FLUID].mean() + 500

    def test_image_and_labels_of_a_head_lie_in_the_same_place(self, label_map: Path) -> None:
        case = head_scan(label_map, 0.75)
        to_mm = case.volume.affine

        def centre(mask: np.ndarray) -> np.ndarray:
            return to_mm[:3, :3] @ np.argwhere(mask).mean(axis=0)

        bright = (case.volume.data > AIR + 0.8 * 1100) & (case.truth > 0)
        assert np.abs(centre(bright) - centre(case.truth == WHITE)).max() < 0.5
        # the white matter lies to the right (voxels run to the left) and a little behind
        away = centre(case.truth == WHITE) - centre(case.volume.data > AIR)
        assert away[0] > 8
        assert -2 < away[1] < 0

    def test_a_head_too_large_for_its_field_is_cut(self, label_map: Path) -> None:
        assert head_scan(label_map, 1.0, (20, 60, 60)).volume.data.shape == (20, 60, 60)

    def test_the_same_seed_gives_the_same_scan(self, label_map: Path) -> None:
        first, again, other = (
            head_scan(label_map, 1.0, None, seed=seed).volume.data for seed in (0, 0, 1)
        )

        assert (first == again).all()
        assert (first != other).any()

    def test_the_tissue_share_counts_patches_of_16_mm(self) -> None:
        assert tissue_share(box((0, 0, 0))) == 1 / 64
        assert tissue_share(box((slice(7, 9), 0, 31))) == 2 / 64
        assert tissue_share(box((0, 0, 0), size=36)) == 1 / 125

    def test_tiles_hold_as_many_scans_as_they_say(self) -> None:
        base = box((slice(0, 8), slice(0, 8), slice(0, 8)), size=16)

        case = tile(base, (2, 3, 1), 4)

        assert case.volume.shape == (32, 48, 16)
        assert case.volume.data.dtype == np.int16
        assert (case.volume.data > 0).sum() == case.truth.sum() == 4 * 8**3
        # raster order: the last axis moves first
        assert case.truth[16:24, :8, :8].all()
        assert not case.truth[16:, 16:].any()
        assert tissue_share(case) == 4 * tissue_share(base) / 6

    def test_growth_has_four_sizes_and_four_shares(self) -> None:
        assert len({copies for copies, _ in growth.SIZES}) == 4
        assert all(np.prod(copies) == filled for copies, filled in growth.SIZES)
        assert len({copies for copies, _ in growth.SHARES}) == 1
        assert len({filled for _, filled in growth.SHARES}) == 4


class TestVariants:
    def test_one_means_is_off_at_a_time(self) -> None:
        default, *others = one_off().values()
        assert default == Variant()

        changed = []
        for other in others:
            names = [f.name for f in fields(Variant) if f.name != "means"]
            changed.append([n for n in names if getattr(other, n) != getattr(default, n)])
            changed[-1] += [f.name for f in fields(Means) if not getattr(other.means, f.name)]
        assert all(len(names) == 1 for names in changed)
        assert sorted(names[0] for names in changed) == sorted(
            ["skip_air", "skip_windows", "active_blocks", "pack_windows", "precision", "setting",
             "overlap"]
        )  # fmt: skip

    def test_the_steps_lead_from_everything_off_to_the_default(self) -> None:
        steps = list(cumulative().values())

        assert steps[0] == Variant(Means.none(), "float32", 1.0, 0.5)
        assert steps[-1] == Variant()
        assert len(steps) == len(one_off())
        assert all(a != b for a, b in zip(steps, steps[1:], strict=False))

    def test_rows_stand_beside_the_first(self) -> None:
        seconds = {"a": timing.spread([2.0]), "b": timing.spread([3.0])}

        rows = rows_of(seconds, {"a": 0.5, "b": 0.6})

        assert [(r["name"], r["over_first"], r["dice"]) for r in rows] == [
            ("a", 1.0, 0.5), ("b", 1.5, 0.6),
        ]  # fmt: skip


class TestArms:
    def test_the_true_labels_go_back_where_weights_are_random(
        self, label_map: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def small(*args: Any, **sizes: Any) -> torch.nn.Module:
            smaller = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2}
            return UNETR(*args, **(sizes | smaller))

        monkeypatch.setattr("benchmarks.arms.UNETR", small)
        case = head_scan(label_map, 2.0)
        arm = MonaiArm(case, 18, 2.0, "cpu", 32, tuned=True)

        labels = arm.run().labels

        assert not arm.has_weights
        assert (labels == case.truth).all()
        assert arm.format == torch.channels_last_3d
        fused = [m.use_flash_attention for m in arm.network.modules() if hasattr(m, "causal_mask")]
        assert fused == [True] * 12, "the attention of each block of the ViT"


@pytest.fixture(scope="module")
def bench(label_map: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A benchmark of tiny models on tiny scans."""
    task, folder = TASKS["brain-mr"], tmp_path_factory.mktemp("models")
    paths = {}
    for method in ("stp", "dense"):
        config = small_config(classes=18, window=(32, 32, 32), sparsifier=method)
        info = ModelInfo(
            f"tiny-{method}", "tiny", method, task.modality, 2.0, task.classes, task.colors,
            0.5 if method == "stp" else 1.0, config.to_dict(), task.license,
            folder / f"{method}.safetensors",
        )  # fmt: skip
        save_model(make_network(config).state_dict(), info)
        paths[method] = info.path
    base = head_scan(label_map, 2.0, (24, 24, 24), "base")

    def case(name: str) -> Case:
        return replace(base, name=name)

    return Bench(case, lambda: [base], "cpu", 1, 1, paths["stp"], paths["dense"])


class TestMeasuring:
    def test_every_variant_of_a_curve_is_measured(self, bench: Bench) -> None:
        found = speed.PARTS["curves"](bench)

        assert [row["value"] for row in found["overlap"]] == list(OVERLAPS)
        assert [row["value"] for row in found["keep_ratio"]] == list(RATIOS)
        gmacs = [row["gmacs"] for row in found["keep_ratio"]]
        assert gmacs == sorted(gmacs, reverse=True)
        assert gmacs[0] > gmacs[-1]

    def test_a_part_of_every_kind_can_be_written_on_the_page(self, bench: Bench) -> None:
        """What is measured and what the page reads have the same form."""
        cpu = {name: speed.PARTS[name](bench) for name in ("trace", "profile", "floor")}

        text = page.make_page({**cpu, **speed.facts("cpu")}, None, None, drawn=False)

        assert f"{cpu['floor']['parts']['restore']['times']:.3g}x" in text
        assert cpu["profile"]["operators"][0]["name"] in text
        assert f"{cpu['trace']['brain-t1']['verdicts'][0]['value']:.3g}x" in text

    def test_memory_is_taken_in_a_process_of_its_own(self, bench: Bench) -> None:
        case = bench.case("base")
        with fresh.on_disk(case) as folder:
            found = fresh.run(folder, bench, "sparse")

        assert found["peak"] >= found["resident"] > 50
        assert found["run"] == pytest.approx(found["peak"] - found["resident"], abs=0.11)

    def test_a_process_that_fails_says_why(self, bench: Bench) -> None:
        broken = replace(bench, sparse="no-such-model")
        with (
            fresh.on_disk(bench.case("base")) as folder,
            pytest.raises(RuntimeError, match="no-such-model"),
        ):
            fresh.press(folder, broken)

    def test_the_network_alone_needs_no_more_than_torch(self, repository: Path) -> None:
        code = """
import sys
for name in ("monai", "nibabel", "napari", "scipy", "safetensors", "SimpleITK", "typer"):
    sys.modules[name] = None
from benchmarks import network
from napari_sparseseg.network import NetworkConfig
network._config = lambda size: NetworkConfig(
    window=(32, 32, 32), dim=24, heads=2, depth=4, stages=(1, 2, 3),
    completion=network.CompletionConfig(24, 1, 2),
    decoder=network.DecoderConfig(4, 2, "channel"), air_level=0.06, air_fraction=0.02,
)
print(__import__("json").dumps(network.measure("cpu", "float32", 1)))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository
        )
        assert not done.returncode, done.stderr
        rows = json.loads(done.stdout.splitlines()[-1])["rows"]
        gmacs = [row["gmacs"] for row in rows]
        assert gmacs[1] >= gmacs[0], "the sparse network scores its tokens as well"
        assert gmacs[1:] == sorted(gmacs[1:], reverse=True)
        assert rows[0]["dense_over_this"] == 1


class TestCommand:
    def test_figures_of_two_machines_never_stand_in_one_file(self, tmp_path: Path) -> None:
        file = tmp_path / "speed.json"
        common = {"machine": {"cores": 2}, "models": {"a": "1"}}
        assert speed.resume(file, common) == common

        file.write_text(json.dumps({**common, "wall": 1}))

        assert speed.resume(file, common)["wall"] == 1
        with pytest.raises(typer.BadParameter, match="other machine"):
            speed.resume(file, {**common, "machine": {"cores": 4}})
        with pytest.raises(typer.BadParameter, match="other models"):
            speed.resume(file, {**common, "models": {"a": "2"}})

    def test_parts_are_chosen_by_name_or_by_what_is_missing(self) -> None:
        everything = list(speed.PARTS)
        assert speed.chosen_parts(None, False, {"wall": 1}) == everything
        assert speed.chosen_parts(None, True, {"wall": 1}) == [p for p in everything if p != "wall"]
        assert speed.chosen_parts(["floor", "wall"], False, {}) == ["wall", "floor"]
        with pytest.raises(typer.BadParameter, match="no part speed"):
            speed.chosen_parts(["speed"], False, {})

    def test_missing_scans_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(typer.BadParameter, match=r"brain-t1.*--data.*SPARSESEG_DATA"):
            speed.existing(tmp_path)
