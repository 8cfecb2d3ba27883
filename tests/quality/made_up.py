"""Measurements made up from a seed, in the form in which they are written."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sparseseg.training.tasks import TASKS

RATIOS = (1.0, 0.7, 0.5, 0.3, 0.1)
SETTINGS = {
    "dense": None,
    "stp": "keep ratio",
    "dtop": "exit threshold",
    "svit": "keep ratio",
    "apformer": "background threshold",
}


def row(
    case: str, dice: list[float | None], encoder: float = 6.0, **changes: Any
) -> dict[str, Any]:
    """One scan of one arm; HD95 is ten times what Dice lacks to 1."""
    values = {
        "case": case,
        "dice": dice,
        "hd95": [None if d is None else 10 * (1 - d) for d in dice],
        "tokens": {
            "total": 300, "air": 100, "kept": 150, "pruned": 43, "exited": 7, "reactivated": 0
        },
        "block_share": 0.61,
        "gmacs": {
            "run": 9.0 + encoder, "dense": 15.0, "encoder": encoder, "encoder_dense": 6.2
        },
    }  # fmt: skip
    return values | changes


def arm(
    sparsifier: str, ratio: float | None, rows: list[dict[str, Any]], **changes: Any
) -> dict[str, Any]:
    """One sparsifier with one seed at one ratio; by default on the test."""
    values = {"set": "test", "sparsifier": sparsifier, "seed": 0, "ratio": ratio, "setting": ratio,
              "reached": True, "share": ratio, "rows": rows}  # fmt: skip
    return values | changes


def model(method: str, arms: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """What was measured of one model."""
    values = {"title": f"A title, {method}", "method": method, "setting": SETTINGS.get(method),
              "default": 0.5, "weights_sha256": "abc123", "precision": "bfloat16",
              "file_mb": 7.7, "arms": arms}  # fmt: skip
    return values | changes


def measured(task: str, tests: int = 12, seed: int = 0) -> dict[str, Any]:
    """Measurements of a whole task, every part of them."""
    structures = list(TASKS[task].classes[1:])
    draw = np.random.default_rng(seed)
    cases = {
        "test": [f"test_{n}" for n in range(tests)],
        "validation": [f"val_{n}" for n in range(8)],
    }
    ease = {case: draw.normal(0, 0.03) for names in cases.values() for case in names}

    def rows(where: str, mean: float, encoder: float) -> list[dict[str, Any]]:
        found = []
        for case in cases[where]:
            noise = draw.normal(0, 0.005, len(structures))
            found.append(row(case, [float(d) for d in mean + ease[case] + noise], encoder))
        return found

    def arms(method: str, lost: float) -> list[dict[str, Any]]:
        found = []
        for ratio in RATIOS if method != "dense" else RATIOS[:1]:
            setting = None if method == "dense" else ratio
            for where in cases:
                found.append(
                    arm(method, ratio, rows(where, 0.78 - lost * (1 - ratio) ** 2, 1 + 5 * ratio),
                        set=where, setting=setting)
                )  # fmt: skip
            if ratio < 1:
                found += [
                    arm("random", ratio, rows("test", 0.78 - 0.2 * (1 - ratio), 1 + 5 * ratio),
                        seed=s)
                    for s in (1, 2, 3)
                ]  # fmt: skip
        for name, mean, encoder in (("truncated", 0.74, 1.6), ("none", 0.6, 0.0)):
            found.append(arm(name, None, rows("test", mean, encoder)))
        return found

    losses = {"dense": 0.0, "stp": 0.02, "dtop": 0.05, "svit": 0.1, "apformer": 0.25}
    models = {
        f"{task}-{method}": model(method, arms(method, lost)) for method, lost in losses.items()
    }
    unreached = arm("dtop", 0.1, [], reached=False, share=0.42, setting=0.5)
    of_dtop = models[f"{task}-dtop"]["arms"]
    of_dtop[:] = [a for a in of_dtop if a["ratio"] != 0.1] + [unreached]
    sparse = [name for name in models if not name.endswith("dense")]
    bins = [
        {"low": low, "high": low + 0.1, "voxels": 1000, "confidence": low + 0.05,
         "accuracy": min(1.0, low + 0.05 - 0.1 * (1 - low))}
        for low in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ]  # fmt: skip
    doubt = {
        name: {"set": "validation", "setting": 0.5, "bins": [dict(part) for part in bins],
               "ece": 0.031, "errors": {"voxels": 7000, "wrong": 350,
                                        "wrong_among_least_confident_10_percent": 0.62}}
        for name in models
    }  # fmt: skip
    return {
        "task": task,
        "classes": ["background", *structures],
        "sets": {
            "test": {"title": f"{tests} test patients", "cases": cases["test"]},
            "validation": {"title": "8 validation patients", "cases": cases["validation"]},
        },
        "random_seeds": [1, 2, 3],
        "versions": {"torch": "2.9"},
        "machine": {"processor": "Abacus 7", "threads": 2},
        "models": models,
        "times": {
            name: [
                {"ratio": ratio, "setting": ratio, "case": case, "round": turn,
                 "seconds": 0.1 + 0.2 * ratio + 0.02 * float(draw.random()), "dense_seconds": 0.29}
                for ratio in RATIOS for case in cases["test"][:3] for turn in range(3)
            ]
            for name in sparse
        },
        "baselines": {
            f"monai-{name}": {
                "title": f"MONAI {title}", "parameters": size, "gmacs_window": 73.4,
                "window": [96, 96, 96], "steps": 500, "minutes": 30.0, "set": "test",
                "rows": [r | {"gmacs": {"run": 220.0}, "seconds": time}
                         for r in rows("test", mean, 0.0)],
            }
            for name, title, size, mean, time in (
                ("unetr", "UNETR, patch 16", 92_800_000, 0.70, 1.9),
                ("dynunet", "DynUNet", 5_600_000, 0.79, 0.9),
            )
        },
        "budget": {f"{task}-dense": {"steps": 900, "minutes": 39.0}},
        "robustness": [
            {"model": f"{task}-stp", "ratio": 0.5, "setting": 0.5, "condition": condition,
             "level": level, "case": case, "dice": [0.7 - lost] * len(structures),
             "reference": [0.7] * len(structures)}
            for condition, level, lost in (("noise", "1", 0.01), ("noise", "2", 0.05),
                                           ("thick slices", "", 0.02))
            for case in cases["test"][:2]
        ],
        "tissue": [],
        "calibration": doubt,
        "exits": {
            f"{task}-dtop": [
                {"threshold": t, "exited": 1 - t / 2, "voxels_right": t, "dice": 0.7 + t / 20,
                 "dense_dice": 0.78} for t in (0.5, 0.9, 0.99)
            ]
        },
        "chosen": {name: {"setting": 0.5, "why": "within 0.005 of the dense twin"}
                   for name in sparse},
    }  # fmt: skip
