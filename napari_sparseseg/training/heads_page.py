"""The figures of the whole-brain models as tables, for the cards."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sparseseg.training.tables import line, rule, token_counts

Arm = dict[str, Any]
"""One sparsifier with one seed at one setting, as ``evaluate`` wrote it."""


def figures(name: str, results: dict[str, Any]) -> str:
    """Return what was measured of a model.

    Parameters
    ----------
    name : str
        The model.
    results : dict
        JSON data of ``evaluate``.
    """
    model = next(m for m in results["models"] if m["model"] == name)
    parts = [
        _explain(model),
        _setting_table(model),
        "### Structure by structure",
        _structure_table(model),
    ]
    return "\n\n".join(parts)


def _explain(model: dict[str, Any]) -> str:
    validation = model["validation"]
    return (
        "Dice by MONAI. `brain-t1`: a real T1 scan that was never trained on; "
        "intermediate checkpoints were looked at on it, choices were made on the validation "
        "scans. "
        f"Validation: {validation['scans']} synthetic scans of {len(validation['files'])} "
        "held-out heads, standard deviation over scans. Tokens and GMACs of `brain-t1`, counted "
        "from what ran. The controls take the place of the model's own sparsifier without "
        "further training: `random` drops as many tokens at each stage (mean over its seeds), "
        "`truncated` ends the encoder at the first stage, `none` runs no block. Inference in "
        f"{model['precision']} on a CPU. Written by `make evaluate`."
    )


def _setting_table(model: dict[str, Any]) -> str:
    head = [
        model["setting"] or "setting",
        "sparsifier",
        "tokens kept / pruned / exited / air",
        "GMACs",
        "brain-t1, 17",
        "brain-t1, 16 without CSF",
        "validation, 17",
    ]
    lines = [line(head), rule(head)]
    for (setting, sparsifier), group in _grouped(model["arms"]).items():
        gmacs = group[0]["gmacs"]
        real = np.mean([a["brain-t1"]["mean"] for a in group])
        without = np.mean([_without_csf(a["brain-t1"]) for a in group])
        held = np.mean([a["validation"]["mean"] for a in group])
        spread = np.mean([a["validation"]["sd_over_scans"] for a in group])
        lines.append(
            line(
                [
                    "–" if setting is None else f"{setting:g}",
                    sparsifier,
                    f"{token_counts(group[0]['tokens'])} / {group[0]['tokens']['air']}",
                    f"{gmacs['run']:.1f} of {gmacs['dense']:.1f}",
                    f"{real:.3f}",
                    f"{without:.3f}",
                    f"{held:.3f} ± {spread:.3f}",
                ]
            )
        )
    return "\n".join(lines)


def _structure_table(model: dict[str, Any]) -> str:
    groups = _grouped(model["arms"])
    settings = sorted({setting for setting, _ in groups if setting is not None}, reverse=True)
    shown = {*settings[:1], *settings[len(settings) // 2 :][:1], *settings[-1:], None}
    columns = [
        (f"{test} {sparsifier}{'' if setting is None else f' {setting:g}'}", test, key)
        for test in ("brain-t1", "validation")
        for key in groups
        for setting, sparsifier in [key]
        if setting in shown
    ]
    head = ["structure", *(title for title, _, _ in columns)]
    lines = [line(head), rule(head)]
    for name in model["arms"][0]["brain-t1"]["structures"]:
        cells = [
            f"{np.mean([a[test]['structures'][name] for a in groups[key]]):.3f}"
            for _, test, key in columns
        ]
        lines.append(line([name, *cells]))
    return "\n".join(lines)


def _grouped(arms: list[Arm]) -> dict[tuple[float | None, str], list[Arm]]:
    """Join the seeds of a sparsifier; densest first, controls without a setting last."""
    groups: dict[tuple[float | None, str], list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: -(arm["setting"] or 0.0)):
        groups.setdefault((arm["setting"], arm["sparsifier"]), []).append(arm)
    return groups


def _without_csf(summary: dict[str, Any]) -> float:
    return float(np.mean([v for k, v in summary["structures"].items() if k != "CSF"]))
