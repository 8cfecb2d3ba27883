"""The page: every figure where it belongs, nothing guessed, negative results said plainly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import tables
from benchmarks.quality.figures import Figures
from benchmarks.quality.findings import findings
from benchmarks.quality.page import make_page, write_page
from tests.quality.made_up import arm, measured, model, row

TASK = "hippocampus-mr"
CASES = [f"case_{n}" for n in range(8)]


def rows(dice: float, encoder: float = 6.0) -> list[dict[str, Any]]:
    """Eight scans, each one point better than the one before."""
    return [row(case, [dice + 0.01 * n] * 2, encoder) for n, case in enumerate(CASES)]


def by_hand() -> dict[str, Any]:
    """A dense twin, and a sparse model that loses 0.4 points at half the encoder."""
    stp = [
        arm("stp", 1.0, rows(0.800)),
        arm("stp", 0.5, rows(0.796, 3.0)),
        arm("stp", 0.3, rows(0.700, 2.0)),
        arm("stp", 0.1, [], reached=False, share=0.42, setting=0.25),
        *(arm("random", 0.5, rows(0.600 + s / 100, 3.0), seed=s) for s in (1, 3)),
        arm("random", 0.3, rows(0.750, 2.0), seed=1),
        arm("truncated", None, rows(0.797, 1.5)),
        arm("none", None, rows(0.500, 0.0)),
    ]
    title = {"title": "8 test patients", "cases": CASES}
    return {
        "task": TASK,
        "classes": ["background", "anterior hippocampus", "posterior hippocampus"],
        "sets": {"test": title},
        "models": {
            f"{TASK}-dense": model("dense", [arm("dense", 1.0, rows(0.8), setting=None)]),
            f"{TASK}-stp": model("stp", stp),
        },
        "times": {
            f"{TASK}-stp": [
                {"ratio": 0.5, "seconds": 1.0, "dense_seconds": dense} for dense in (1.0, 1.5, 2.0)
            ]
        },
    }  # fmt: skip


def line(text: str, *starts: str) -> list[str]:
    """Return the cells of the only line of a table that starts so."""
    (found,) = (x for x in text.splitlines() if x.startswith("| " + " | ".join(starts) + " |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def said(data: dict[str, Any], start: str) -> str:
    (found,) = (sentence for sentence in findings(Figures(data)) if sentence.startswith(start))
    return found


def page(*data: dict[str, Any]) -> str:
    every = [Figures(part) for part in data]
    return make_page(every, {figures.task.name: {} for figures in every}, Path("nowhere"))


def test_costs_by_hand() -> None:
    figures = Figures(by_hand())
    text = tables.cost_table(figures, figures.models, "test")
    assert line(text, "`stp`", "0.5") == [
        "`stp`", "0.5", "keep ratio 0.5", "150 / 43 / 7", "61 %", "3.00", "50 %", "12.00",
        "1.50x (1.25 to 1.75)",
    ]  # fmt: skip
    assert line(text, "`stp`", "0.1")[2] == (
        "not reached: the nearest share is 0.42, at keep ratio 0.25"
    )
    assert line(text, "`dense`", "1")[2] == "–"
    assert line(text, "`stp`", "0.3")[-1] == "–"  # not timed


def test_quality_by_hand() -> None:
    """0.8 to 0.87 has mean 0.835 and sd 0.0245; eight gains of one sign have p = 2 / 2^8."""
    figures = Figures(by_hand())
    text = tables.quality_table(figures, figures.models, "test")
    assert line(text, "`dense`", "1")[2:5] == ["0.835 ± 0.024", "0.835", "1.6 ± 0.2 (0)"]
    half = line(text, "`stp`", "0.5")
    assert half[2:4] == ["0.831 ± 0.024", "0.831"]
    assert half[5:] == ["-0.4 (p = 0.0078*)", "0.655 ± 0.024", "+17.6 (p = 0.0078*)"]
    assert line(text, "`stp`", "0.3")[7] == "-5.0 (p = 0.0078*)"
    assert line(text, "`stp`", "1")[5:] == ["+0.0 (p = 1)", "–", "–"]
    assert not [x for x in text.splitlines() if x.startswith("| `stp` | 0.1 |")]


def test_scans_whose_prediction_lacks_a_class_are_counted() -> None:
    data = by_hand()
    data["models"][f"{TASK}-dense"]["arms"][0]["rows"][0]["hd95"] = [None, 5.0]
    figures = Figures(data)
    cells = line(tables.quality_table(figures, figures.models, "test"), "`dense`", "1")
    assert cells[4].endswith("(1)")


def test_controls_by_hand() -> None:
    text = tables.control_table(Figures(by_hand()).models, "test")
    assert line(text, "`stp`", "truncated")[2:] == ["1.50", "0.832 ± 0.024", "-0.3 (p = 0.0078*)"]
    assert line(text, "`stp`", "none")[2:] == ["0.00", "0.535 ± 0.024", "-30.0 (p = 0.0078*)"]


def test_structures_and_baselines() -> None:
    data = by_hand()
    data["baselines"] = {
        "monai-unetr": {
            "title": "MONAI UNETR", "parameters": 92_800_000, "gmacs_window": 73.4, "steps": 500,
            "minutes": 31.4, "set": "test",
            "rows": [r | {"dice": [0.5, None], "gmacs": {"run": 220.0}} for r in rows(0.5)],
        }
    }  # fmt: skip
    data["budget"] = {f"{TASK}-dense": {"steps": 900, "minutes": 39.0}}
    figures = Figures(data)
    text = tables.baseline_table(figures, "test")
    assert line(text, "MONAI UNETR")[1:6] == ["92.8", "220", "500", "31", "0.500 ± 0.000"]
    assert line(text, "MONAI UNETR")[7] == "-33.5 (p = 0.0078*)"
    assert line(text, "`dense`")[2:5] == ["15", "900", "39"]
    assert line(text, "`stp` 0.5")[1] == "–"
    text = tables.class_table(figures, tables.others(figures, "test"), "dice")
    assert line(text, "anterior hippocampus")[1] == "0.500 ± 0.000"
    assert line(text, "posterior hippocampus")[1] == "–"
    text = said(data, "Other networks")
    assert "(31 minutes of training; the dense twin is ahead of it: median +33.5 points" in text
    assert text.endswith("after 39 minutes of training.")


def test_cheap_and_good_arms_are_named() -> None:
    assert said(by_hand(), "Within 0.5 points").endswith("`stp` at 0.5 (-0.4 points, 50 % fewer).")


@pytest.mark.parametrize(("dice", "encoder"), [(0.7949, 3.0), (0.8, 3.7)])
def test_too_costly_or_too_bad_is_named_nowhere(dice: float, encoder: float) -> None:
    """5.1 thousandths lost, or 38 % saved."""
    data = by_hand()
    data["models"][f"{TASK}-stp"]["arms"][1] = arm("stp", 0.5, rows(dice, encoder))
    assert said(data, "Within 0.5 points").endswith("**none**.")


def test_a_loss_to_random_pruning_is_said() -> None:
    text = said(by_hand(), "Few tokens left")
    assert "at 0.3 it is **worse** (median -5.0 points, p = 0.0078)" in text
    assert "at 0.1 no threshold gives this ratio" in text
    data = by_hand()
    data["models"][f"{TASK}-stp"]["arms"][-3] = arm("random", 0.3, rows(0.7, 2.0), seed=1)
    assert "at 0.3 it does **not beat** it (median +0.0 points" in said(data, "Few tokens left")


def test_whether_the_encoder_is_needed_is_said() -> None:
    cut = said(by_hand(), "With the encoder ended")
    assert "`stp` -0.3 points" in cut
    assert "**Equal within 0.5 points: `stp`**" in cut
    assert "None equals" in said(by_hand(), "With no encoder block")
    data = by_hand()
    trained = model("none", [arm("none", 1.0, rows(0.801, 0.0), setting=None)], default=1.0)
    data["models"][f"{TASK}-none"] = trained
    assert "**Equal within 0.5 points: `none`**" in said(data, "Trained with no encoder block")


def test_the_recommendation_says_why_and_what_it_gives() -> None:
    data = by_hand() | {"chosen": {f"{TASK}-stp": {"setting": 0.5, "why": "a reason"}}}
    text = said(data, "Default of `stp`: keep ratio 0.5, a reason.")
    assert "mean Dice of 0.831, -0.4 points beside the dense twin, with 50 % fewer" in text


def test_one_test_scan_gives_no_test() -> None:
    data = measured("brain-mr", tests=1)
    data["sets"]["test"]["title"] = "brain-t1"
    text = page(data)
    assert "On brain-t1 there is no test: one scan" in text
    assert "the paired tests run on 8 validation patients" in text
    on_test, on_validation = text.split("### Methods by ratio: ")[1:]
    assert "(no test)" in on_test
    assert "p < 0.001" not in on_test
    assert "p = " in on_validation.split("###")[0]
    assert "4 of them held out" in text


def test_the_goal_on_the_brain_is_judged_with_and_without_csf() -> None:
    data = measured("brain-mr", tests=1)
    classes = len(data["classes"]) - 1
    dice = [0.884] * (classes - 1) + [0.0]  # 16 x 0.884 / 17 = 0.832
    only = model("dense", [arm("dense", 1.0, [row("brain-t1", dice)], setting=None)])
    data["models"] = {"brain-mr-dense": only}
    assert "`dense` 0.832 (**missed**; 0.884 without CSF)" in said(data, "Against the goal of 0.85")
    only["arms"][0]["rows"] = [row("brain-t1", [0.85] * classes)]
    assert "`dense` 0.850 (met;" in said(data, "Against the goal of 0.85")


def test_the_whole_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text('{"models": []}')
    monkeypatch.setenv("SPARSESEG_WEIGHTS", str(tmp_path))  # no model is registered
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    (results / "headneck-ct.json").write_text(json.dumps(measured("headneck-ct")))
    write_page(results, docs, tmp_path / "no-logs")
    text = (docs / "results.md").read_text()
    assert "Not measured yet: Whole brain MR, Hippocampus MR." in text
    for title in ("Robustness", "Calibration", "Exits by threshold", "Which default"):
        part = text.split(f"### {title}")[1].split("###")[0]
        assert "|---" in part
        assert "Not measured yet" not in part
    assert "| noise 2 | 2 of test | 0.650 ± 0.000 (-5.0) |" in text
    assert "| 0.5 (chosen) | 75 % | 50.00 % | 0.725 | -5.5 |" in text
    assert "`headneck-ct-stp` at keep ratio 0.5: -" in text
    assert re.findall(r"\bnan\b|None|\{", text.replace("None equals", "")) == []
    for picture in re.findall(r"\]\((images/[^)]+)\)", text):
        assert (docs / picture).exists()
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({x.count("|") for x in block.splitlines()}) == 1


PARTS = ["times", "baselines", "budget", "robustness", "tissue", "calibration", "exits", "chosen",
         "machine", "random_seeds", "versions"]  # fmt: skip


@pytest.mark.parametrize("lacking", [*([part] for part in PARTS), [*PARTS, "models"]])
def test_what_was_not_measured_is_said(lacking: list[str]) -> None:
    data = {key: value for key, value in measured(TASK).items() if key not in lacking}
    text = page(data)
    assert re.findall(r"\bnan\b|\{", text) == []
    if "times" in lacking:
        assert "Not measured yet: " in text
        assert "times" in text.split("Not measured yet: ")[2].split(".")[0]
    if "robustness" in lacking:
        assert "### Robustness\n\nNot measured yet." in text


def test_without_the_dense_twin_nothing_is_compared_with_it() -> None:
    data = by_hand()
    del data["models"][f"{TASK}-dense"]
    figures = Figures(data)
    cells = line(tables.quality_table(figures, figures.models, "test"), "`stp`", "0.5")
    assert cells[5] == "–"
    assert line(tables.cost_table(figures, figures.models, "test"), "`stp`", "0.5")[6] == "–"
    assert (
        "dense twin's mean Dice" not in page(data).split("## Hippocampus")[1].split("### Which")[0]
    )
