"""The page of the benchmark, written from made-up figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import growth, page, speed, targets, timing
from benchmarks.arms import ARMS


def made_up() -> dict[str, Any]:
    """Figures made up by hand, no two alike."""
    numbers = iter(np.arange(0.0111, 90, 0.0101).tolist())

    def spread() -> timing.Spread:
        low = next(numbers)
        return {"median": next(numbers), "min": low, "max": next(numbers), "repeats": 5}

    def verdict() -> dict[str, Any]:
        return targets.TRACE.judge(next(numbers))

    volume = {"title": "a scan", "shape": [8, 8, 8], "spacing": [1, 1, 1], "tissue_share": 0.1234}
    arms = {
        name: {"seconds": spread(), "precision": "bfloat16", "dice": next(numbers)} for name in ARMS
    }
    memory = {
        key: {name: 1000 * next(numbers) for name in ("run", "peak", "swap", "seconds")}
        for key in ARMS
    }
    slider = {
        key: spread() for key in ("first_press", "from_disk", "in_memory", "rerun", "preview")
    }
    phantom = [
        {"name": f"p{n}", "shape": [n, n, n], "tissue_share": n / 10, "token_blocks": 100 * n,
         "seconds": spread(), "parts": {"network": next(numbers), "total": next(numbers)}}
        for n in (1, 2)
    ]  # fmt: skip
    fits = {p: growth.fit_line([1, 2, 3], [next(numbers), 5, 1]) for p in ("network", "total")}
    variant = {"name": "v", "seconds": spread(), "over_first": next(numbers), "dice": 0.8123}
    point = {"value": 0.25, "dice": 0.7321, "seconds": next(numbers), "gmacs": 12.3}
    names = ("first_press", "from_disk", "in_memory", "preview")
    return {
        "machine": speed.facts("cpu")["machine"] | {"processor": "Abacus 7"},
        "wall": {"brain-t1": {"volume": volume, "arms": arms, "verdicts": [verdict()]}},
        "slider": {
            "brain-t1": {
                "volume": volume, "seconds": slider,
                "parts": {"in_memory": {"restore": 0.5151}, "rerun": {"restore": 0.4141}},
                "verdicts": {name: verdict() for name in names},
            }
        },
        "memory": {"brain-t1": {"volume": volume, "arms": memory, "verdicts": [verdict()]}},
        "large": {"volume": volume, **memory["sparse"], "verdicts": [verdict(), verdict()]},
        "trace": {
            "brain-t1": {
                "volume": volume, "seconds": {"on": spread(), "off": spread()},
                "verdicts": [verdict()],
            }
        },
        "growth": {"rows": phantom, "fits": fits, "verdicts": [verdict()]},
        "ablation": {"volume": volume, "one_off": [variant], "cumulative": [variant]},
        "curves": {"heads": ["h1"], "overlap": [point], "keep_ratio": [point]},
        "profile": {
            "cases": {
                "template-256": {
                    "volume": volume, "seconds": {"total": 2.0, "restore": 1.25},
                    "shares": {"restore": 1.0},
                }
            },
            "operators_of": "template-256",
            "operators": [{"name": "aten::mm", "share": 0.4321, "calls": 77}],
        },
        "floor": {
            "volume": volume, "precision": "bfloat16",
            "rates": {"operations": 1.11e12, "bytes": 9.87e9},
            "parts": {"network": {"operations": 3.21e11, "bytes": 4.56e8, "seconds": 0.6543,
                                  "floor": 0.2891, "times": 2.26}},
        },
        "network": {
            "window": [96, 96, 96], "precision": "float32",
            "rows": [{"name": "dense twin", "seconds": spread(), "gmacs": 33.3,
                      "dense_over_this": 1.0}],
        },
    }  # fmt: skip


def numbers_of(result: Any) -> list[float]:
    """Every median, dice, memory and verdict in a result."""
    if isinstance(result, list):
        return [n for item in result for n in numbers_of(item)]
    if not isinstance(result, dict):
        return []
    shown = [result[key] for key in ("median", "min", "max", "value") if key in result]
    return shown + [n for item in result.values() for n in numbers_of(item)]


def columns(text: str, word: str) -> list[str]:
    """All cells of the columns whose head holds a word."""
    cells, chosen = [], []
    for line in text.splitlines():
        row = [c.strip() for c in line.strip("|").split("|")] if line.startswith("|") else []
        if not row:
            chosen = []
        elif not chosen:
            chosen = [n for n, cell in enumerate(row) if word in cell] or [-1]
        elif set(row) != {"---"} and chosen != [-1]:
            cells += [row[n] for n in chosen]
    return cells


class TestPage:
    def test_every_figure_stands_on_it_and_the_gpu_columns_are_empty(self) -> None:
        cpu = made_up()

        text = page.make_page(cpu, None, None, drawn=True)

        milliseconds = (cpu["slider"]["brain-t1"]["seconds"]["preview"], *(
            row["seconds"] for row in cpu["network"]["rows"]
        ))  # fmt: skip
        for spread in milliseconds:
            for key in ("median", "min", "max"):
                spread[key] *= 1000
        assert len(numbers_of(cpu)) > 60
        assert [n for n in numbers_of(cpu) if f"{n:.3g}" not in text] == []
        for other in ("Abacus 7", "0.8123", "0.7321", "0.289", "2.26x", "43.2 %", "0.414", "33.3"):
            assert other in text
        assert set(columns(text, "GPU")) == {""}
        assert "nothing was measured on one yet" in text
        assert "Not measured yet" not in text
        assert f"images/{page.PICTURE}" in text

    def test_what_a_gpu_gave_fills_its_columns(self) -> None:
        cpu, gpu = made_up(), made_up()
        gpu["machine"]["device"] = "Graphics 9"
        gpu["wall"]["brain-t1"]["arms"]["sparse"]["seconds"]["median"] = 0.00123

        text = page.make_page(cpu, gpu, None, drawn=False)

        assert "Graphics 9" in text
        assert "0.00123 (" in text
        assert "" not in columns(text, "GPU seconds")
        assert page.PICTURE not in text

    def test_figures_of_before_stand_beside_the_same_scan(self) -> None:
        before = {"first_run_parts_median": {"restore": 0.2612}}

        text = page.make_page(made_up(), None, before, drawn=False)

        assert columns(text, "seconds before") == ["", "0.261"]

    def test_what_was_not_measured_is_said(self) -> None:
        cpu = made_up()
        del cpu["slider"]

        assert page.make_page(cpu, None, None, drawn=True).count("Not measured yet.") == 1

    def test_a_missed_target_is_visible(self) -> None:
        cpu = made_up()
        for met, word in ((True, "met"), (False, "**missed**")):
            cpu["large"]["verdicts"] = [targets.SWAP.judge(0.0 if met else 0.5)]
            text = page.make_page(cpu, None, None, drawn=True)
            line = next(x for x in text.splitlines() if "swap in use" in x)
            assert f"| {word} |" in line

    def test_published_claims_stand_beside_ours(self) -> None:
        text = page.make_page(made_up(), None, None, drawn=True)

        for figure in ("+60.6 %", "+34.6 %", "20 to 35 %", "9.1x", "11.1x"):
            assert figure in text

    def test_page_and_picture_are_written(self, tmp_path: Path) -> None:
        (tmp_path / page.CPU_FILE).write_text(json.dumps(made_up()))

        page.write_page(tmp_path, tmp_path / "none.json", tmp_path / "docs")

        assert (tmp_path / "docs" / "performance.md").read_text().startswith("# How fast")
        picture = (tmp_path / "docs" / "images" / page.PICTURE).read_bytes()
        assert picture.startswith(b"\x89PNG")


def test_the_window_is_told_where_it_was_measured() -> None:
    rows = {
        "scan alone": {"median_ms": 33.2, "p95_ms": 41.0, "steps": 60},
        "kept": {"median_ms": 68.4, "p95_ms": 80.8, "steps": 60},
    }
    viewer = {
        "napari": "0.9", "canvas": [892, 690], "software_opengl": True, "scan": "512x512x400",
        "model": "tiny", "visible": rows,
        "more_than_scan_alone_ms": {"scan alone": 0.0, "kept": 35.2},
    }  # fmt: skip
    text = page.make_page(made_up(), None, None, True, viewer)

    assert "## Slices in the window" in text
    assert "| kept | 68 | 81 | 35 |" in text
    assert (
        "60 steps in a real napari 0.9 window (892x690 pixels of canvas, software OpenGL)" in text
    )
    assert "## Slices" not in page.make_page(made_up(), None, None, True)
