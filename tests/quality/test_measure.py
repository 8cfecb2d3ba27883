"""Measuring: contenders, thresholds, recommendations, and a small task from end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from benchmarks.quality import __main__ as command
from benchmarks.quality import arms, measure, times
from benchmarks.quality.arms import (
    RANDOM_SEEDS,
    RATIOS,
    Calibrated,
    Contender,
    calibrate,
    contenders,
    settings_for_ratios,
)
from benchmarks.quality.cases import Case, CaseSet, case_sets
from benchmarks.quality.measure import joined
from benchmarks.quality.recommend import recommend
from napari_sparseseg.analysis.metrics import dice_per_class, hd95_per_class
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo, weights_checksum
from tests.quality.conftest import TASK
from tests.quality.tiny import make_model, make_scan

Register = Callable[[str], ModelInfo]


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return make_model(tmp_path_factory.mktemp("model"), "dtop")


class TestArms:
    @pytest.mark.parametrize("method", ["stp", "dtop", "svit", "apformer", "edge"])
    def test_a_rule_meets_the_controls(self, info: ModelInfo, method: str) -> None:
        found = list(contenders(replace(info, method=method)))

        assert found[0] == Contender(method)
        assert [c.seed for c in found if c.sparsifier == "random"] == list(RANDOM_SEEDS)
        assert {c.sparsifier for c in found[1:]} == {"random", "truncated", "none"}

    @pytest.mark.parametrize("method", ["dense", "truncated", "none"])
    def test_a_model_without_a_rule_meets_nobody(self, info: ModelInfo, method: str) -> None:
        model = replace(info, method=method)

        assert list(contenders(model)) == [Contender(method)]
        assert Contender(method).ratios(model) == (1.0,)

    def test_ratios_of_contenders(self, info: ModelInfo) -> None:
        """Random pruning has nothing to draw at 1; a control without a setting runs once."""
        assert Contender("dtop").ratios(info) == RATIOS
        assert Contender("random", 2).ratios(info) == (0.7, 0.5, 0.3, 0.1)
        assert Contender("none").ratios(info) == (None,)

    def test_bisection_finds_the_nearest_share(self) -> None:
        asked = []

        def share(setting: float) -> float:
            asked.append(setting)
            return round(setting**2, 2)  # steps, as with few tokens

        found = calibrate(share, low=0.1, ratio=0.5)

        assert (found.reached, found.share) == (True, 0.5)
        assert found.setting == pytest.approx(math.sqrt(0.5), abs=0.01)
        assert len(asked) < 20

    def test_a_share_below_the_lowest_setting_is_not_reached(self) -> None:
        found = calibrate(lambda setting: 0.4 + 0.6 * setting, low=0.5, ratio=0.3)

        assert found == Calibrated(0.5, 0.7, False)

    def test_a_share_inside_a_jump_is_not_reached(self) -> None:
        """As when the confidence of most tokens is the same to the last digit."""
        found = calibrate(lambda setting: 0.2 if setting < 0.9 else 0.95, low=0.5, ratio=0.5)

        assert (found.reached, found.share) == (False, 0.2)

    def test_a_keep_ratio_is_its_own_setting(self, info: ModelInfo) -> None:
        nobody = CaseSet("scans", (), lambda name: pytest.fail("no scan is needed"))

        assert settings_for_ratios(replace(info, method="dense"), nobody) == {
            1.0: Calibrated(1.0, 1.0, True)
        }
        assert settings_for_ratios(replace(info, method="svit"), nobody) == {
            ratio: Calibrated(ratio, ratio, True) for ratio in RATIOS
        }

    def test_a_threshold_is_calibrated_on_a_few_scans_of_the_whole_set(
        self, info: ModelInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = []

        def load(name: str) -> Case:
            read.append(name)
            scan = make_scan()
            return Case(name, scan, np.zeros(scan.shape, np.uint8))

        def settle(share_of: Callable[[float], float], low: float, ratio: float) -> Calibrated:
            return Calibrated(ratio, share_of(low), low < ratio)

        monkeypatch.setattr(arms, "calibrate", settle)
        found = settings_for_ratios(info, CaseSet("scans", tuple("abcdefghijkl"), load))

        assert read == list("acegik")
        with Segmenter(info).open(make_scan()) as session:
            counts = session.run(0.5).trace.counts()
        share = counts["kept"] / (counts["total"] - counts["air"])
        assert found[0.7] == Calibrated(0.7, pytest.approx(share), True)
        assert found[1.0] == Calibrated(1.0, 1.0, True)


def made(method: str, dice: dict[float, float], setting: str | None = "keep ratio") -> Any:
    """A measured model: mean Dice on two validation scans at each setting."""
    own = {"set": "validation", "sparsifier": method, "reached": True}
    rows = [
        own | {"setting": s, "rows": [{"dice": [d - 0.1, d + 0.1]}, {"dice": [d, None]}]}
        for s, d in dice.items()
    ]
    tempting = {"set": "test", "sparsifier": method, "reached": True, "setting": 0.01}
    drawn = own | {"sparsifier": "random", "setting": 0.02}
    missed = own | {"setting": 0.03, "reached": False, "rows": []}
    best = [{"dice": [1.0, 1.0]}]
    others = [tempting | {"rows": best}, drawn | {"rows": best}, missed]
    return {"method": method, "setting": setting, "arms": [*others, *rows]}


class TestRecommendation:
    def models(self, **models: Any) -> Any:
        return {"models": {"d": made("dense", {1.0: 0.8}, None), **models}}

    def test_the_smallest_setting_within_half_a_point(self) -> None:
        """The validation scans decide, with the model's own rule at ratios that it reached."""
        found = recommend(self.models(m=made("stp", {1.0: 0.8, 0.5: 0.7951, 0.3: 0.7949})))

        assert found.keys() == {"m"}
        assert found["m"]["setting"] == 0.5
        assert "0.7951" in found["m"]["why"]
        assert "0.8000" in found["m"]["why"]

    def test_nothing_is_pruned_where_no_setting_is_good_enough(self) -> None:
        found = recommend(self.models(m=made("stp", {1.0: 0.79, 0.5: 0.78})))

        assert found["m"]["setting"] == 1.0
        assert found["m"]["why"].startswith("no keep ratio")

    def test_exited_voxels_have_to_be_right(self) -> None:
        exits = [
            {"threshold": 0.5, "dice": 0.81, "voxels_right": 0.98},
            {"threshold": 0.7, "dice": 0.79, "voxels_right": 0.999},
            {"threshold": 0.9, "dice": 0.80, "voxels_right": 0.99},
            {"threshold": 0.99, "dice": 0.80, "voxels_right": None},
        ]
        model = made("dtop", {1.0: 0.8, 0.6: 0.8}, "exit threshold")

        found = recommend(self.models(m=model) | {"exits": {"m": exits}})
        assert found["m"]["setting"] == 0.9
        found = recommend(self.models(m=model) | {"exits": {"m": exits[-1:]}})
        assert found["m"]["setting"] == 0.99
        assert recommend(self.models(m=model)) == {}, "without that part nothing can be said"

    def test_a_threshold_is_rounded_to_what_prunes_no_more(self) -> None:
        found = recommend(self.models(m=made("apformer", {1.0: 0.8, 0.282629: 0.8, 0.3: 0.8})))
        assert found["m"]["setting"] == 0.29
        found = recommend(self.models(m=made("stp", {1.0: 0.8, 0.3: 0.8, 0.1: 0.7})))
        assert found["m"]["setting"] == 0.3

    def test_nothing_is_said_without_the_dense_twin(self) -> None:
        assert recommend({"models": {"m": made("stp", {1.0: 0.8})}}) == {}


class TestJoining:
    def test_what_is_new_takes_the_place_of_the_same_models(self) -> None:
        old = [{"model": "a", "x": 1}, {"model": "b", "x": 2}]

        assert joined({"a": 1, "b": 2}, {"b": 3}, ["b"]) == {"a": 1, "b": 3}
        assert joined(old, [{"model": "a", "x": 9}], ["a"]) == [old[1], {"model": "a", "x": 9}]
        assert joined(None, {"a": 1}, ["a"]) == {"a": 1}
        assert joined(None, old, ["a", "b"]) == old

    def test_a_row_stands_on_one_line(self) -> None:
        row = {"case": "x", "dice": [0.123456] * 30, "hd95": [None] * 30}
        found = {"rows": [row] * 9, "empty": {}, "text": 'é, "["'}

        lines = command.lines_of(found)

        assert json.loads(lines) == found
        assert lines.count("\n") == 9 + 5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ratios, two draws, two rounds."""
    monkeypatch.setattr(arms, "RATIOS", (1.0, 0.5))
    monkeypatch.setattr(arms, "RANDOM_SEEDS", (1, 2))
    monkeypatch.setattr(times, "ROUNDS", 2)


@pytest.mark.usefixtures("quick")
class TestEndToEnd:
    def measured(self, data: Path, out: Path, only: list[str], **options: Any) -> Any:
        command.measure(TASK, only=only, data=data, out=out, **options)
        return json.loads(out.read_text())

    def test_the_json_has_what_was_agreed(
        self,
        data: Path,
        register: Register,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        stp, _ = register("stp"), register("dense")
        only = ["models", "times", "chosen"]

        found = self.measured(data, tmp_path / "new" / "quality.json", only)

        assert found.keys() == {
            "task", "classes", "training", "sets", "random_seeds", "versions", "machine", *only
        }  # fmt: skip
        assert found["classes"][0] == "background"
        assert found["training"] == 1
        assert found["sets"]["test"] == {"title": "2 test scans", "cases": ["scan_4", "scan_5"]}
        assert list(found["models"]) == [f"{TASK}-dense", f"{TASK}-stp"]
        assert f"no model named '{TASK}-svit'" in capsys.readouterr().out
        model = found["models"][f"{TASK}-stp"]
        assert model.keys() == {
            "title", "method", "setting", "default", "weights_sha256", "precision", "parameters",
            "file_mb", "arms",
        }  # fmt: skip
        assert (model["setting"], model["default"]) == ("keep ratio", 0.5)
        self.check_arms(model["arms"])
        self.check_row(stp, data, model["arms"])
        (dense, again) = found["models"][f"{TASK}-dense"]["arms"]
        assert (dense["set"], again["set"]) == ("test", "validation")
        assert (dense["ratio"], dense["setting"], dense["share"]) == (1.0, None, 1.0)
        assert found["chosen"].keys() == {f"{TASK}-stp"}
        assert found["times"].keys() == {f"{TASK}-stp"}
        self.check_times(found["times"][f"{TASK}-stp"])

    def check_arms(self, found: list[Any]) -> None:
        """Own rule on both sets; draws below 1 and the other controls on the test scans."""
        keys = ("set", "sparsifier", "seed", "ratio", "setting", "share")
        assert [tuple(arm[key] for key in keys) for arm in found] == [
            ("test", "stp", 0, 1.0, 1.0, 1.0),
            ("test", "stp", 0, 0.5, 0.5, 0.5),
            ("validation", "stp", 0, 1.0, 1.0, 1.0),
            ("validation", "stp", 0, 0.5, 0.5, 0.5),
            ("test", "random", 1, 0.5, 0.5, 0.5),
            ("test", "random", 2, 0.5, 0.5, 0.5),
            ("test", "truncated", 0, None, None, None),
            ("test", "none", 0, None, None, None),
        ]
        assert all(arm["reached"] for arm in found)
        for arm in found:
            names = {"test": ["scan_4", "scan_5"], "validation": ["scan_2", "scan_3"]}
            assert [row["case"] for row in arm["rows"]] == names[arm["set"]]
        assert found[4]["rows"][0]["dice"] != found[5]["rows"][0]["dice"]
        own, _, _, _, drawn, _, truncated, none = (arm["rows"][0] for arm in found)
        assert own["block_share"] == 1.0 > drawn["block_share"] > none["block_share"] == 0.0
        assert own["gmacs"]["encoder"] >= truncated["gmacs"]["encoder"] >= 0.0

    def check_row(self, info: ModelInfo, data: Path, found: list[Any]) -> None:
        """The same scan through the engine by hand."""
        case = case_sets(TASK, data)["test"].load("scan_5")
        answer = Segmenter(info).segment(case.volume, 0.5)
        (row,) = (r for r in found[1]["rows"] if r["case"] == "scan_5")
        labels, spacing = answer.labels.data, (1.0, 1.0, 2.0)
        assert row == {
            "case": "scan_5",
            "dice": dice_per_class(labels, case.truth, 3),
            "hd95": hd95_per_class(labels, case.truth, 3, spacing),
            "tokens": answer.trace.counts(),
            "block_share": round(float(answer.trace.ran[:, ~answer.trace.air].mean()), 4),
            "gmacs": answer.report["gmacs"],
        }
        assert row["dice"][1] is None, "the second structure is not in this scan"
        assert row["gmacs"].keys() == {"run", "dense", "encoder", "encoder_dense"}

    def check_times(self, rows: list[Any]) -> None:
        """Two rounds for each of two ratios on each of two scans."""
        keys = ("case", "ratio", "setting", "round")
        assert [tuple(row[key] for key in keys) for row in rows] == [
            (case, ratio, ratio, number)
            for case in ("scan_4", "scan_5")
            for ratio in (1.0, 0.5)
            for number in (0, 1)
        ]
        assert all(row["seconds"] > 0 < row["dense_seconds"] for row in rows)

    def test_a_ratio_that_a_threshold_does_not_reach_is_said(
        self,
        data: Path,
        register: Register,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        register("dtop")
        nearest = {1.0: Calibrated(1.0, 1.0, True), 0.5: Calibrated(0.5, 0.81, False)}
        monkeypatch.setattr(measure, "settings_for_ratios", lambda info, cases: nearest)

        found = self.measured(data, tmp_path / "quality.json", ["models"], cases=1)

        every = found["models"][f"{TASK}-dtop"]["arms"]
        missed = [arm for arm in every if not arm["reached"]]
        assert [(arm["set"], arm["sparsifier"]) for arm in missed] == [
            ("test", "dtop"),
            ("validation", "dtop"),
        ]
        for arm in missed:
            assert (arm["ratio"], arm["setting"], arm["share"]) == (0.5, 0.5, 0.81)
            assert arm["rows"] == []
        assert not [arm for arm in every if arm["sparsifier"] == "random"]

    def test_a_killed_run_loses_one_model_and_goes_on(
        self,
        data: Path,
        register: Register,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for method in ("dense", "stp"):
            register(method)
        out, ran = tmp_path / "quality.json", []

        def killed(info: ModelInfo, sets: Any) -> Any:
            ran.append(info.method)
            if info.method == "stp" and ran.count("stp") == 1:
                raise KeyboardInterrupt
            return {"weights_sha256": weights_checksum(info.path), "run": len(ran)}

        monkeypatch.setattr(measure, "measure_model", killed)
        with pytest.raises(KeyboardInterrupt):
            self.measured(data, out, ["models"])
        assert list(json.loads(out.read_text())["models"]) == [f"{TASK}-dense"]

        found = self.measured(data, out, ["models"], missing=True)

        assert ran == ["dense", "stp", "stp"]
        assert [m["run"] for m in found["models"].values()] == [1, 3]

        outdated = json.loads(out.read_text())
        outdated["models"][f"{TASK}-dense"]["weights_sha256"] = "of an older model"
        out.write_text(json.dumps(outdated))
        found = self.measured(data, out, ["models"], missing=True)
        assert ran == ["dense", "stp", "stp", "dense"]

    def test_a_default_that_no_ratio_led_to_is_measured(
        self, data: Path, tmp_path: Path, register: Register
    ) -> None:
        register("stp")
        out, name = tmp_path / "quality.json", f"{TASK}-stp"
        found = self.measured(data, out, ["models"])
        for setting in (0.5, 0.77):
            found["chosen"] = {name: {"setting": setting, "why": "a reason"}}
            out.write_text(json.dumps(found))
            arms = self.measured(data, out, ["defaults"])["defaults"][name]
            if setting == 0.5:
                assert arms == []
        assert [(arm["set"], arm["setting"]) for arm in arms] == [
            ("test", 0.77),
            ("validation", 0.77),
        ]
        assert [row["case"] for row in arms[0]["rows"]] == ["scan_4", "scan_5"]

    def test_a_part_leaves_the_others(
        self, data: Path, tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register("stp")
        out = tmp_path / "quality.json"
        parts = {"tissue": lambda bench: iter([[{"model": f"{TASK}-stp", "grey": 0.9}]])}
        monkeypatch.setattr(command, "PARTS", command.PARTS | parts)

        self.measured(data, out, ["chosen"])
        found = self.measured(data, out, ["tissue"])

        assert found["chosen"] == {}
        assert found["tissue"] == [{"model": f"{TASK}-stp", "grey": 0.9}]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"task": "knee"}, "no task knee"),
            ({"only": ["speed"]}, "no part speed"),
            ({"cases": 1, "out": None}, "--out"),
            ({"data": Path("/nowhere")}, "split.json"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, data: Path, tmp_path: Path, options: dict[str, Any], said: str
    ) -> None:
        usual = {"task": TASK, "data": data, "out": tmp_path / "quality.json"}
        with pytest.raises(typer.BadParameter, match=said):
            command.measure(**(usual | options))
        assert not list(tmp_path.iterdir())

    def test_other_scans_do_not_join_one_table(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "quality.json"
        self.measured(data, out, ["chosen"], models=["nobody"])

        with pytest.raises(typer.BadParameter, match="other sets"):
            self.measured(data, out, ["chosen"], models=["nobody"], cases=1)
