"""The sections of the page that explain: ablation, curves, profile, floor, network, claims."""

from __future__ import annotations

from benchmarks.claims import CLAIMS
from benchmarks.markdown import EMPTY, Result, at, number, percent, span, table


def ablation(cpu: Result, gpu: Result | None) -> str:
    """Return what each means is worth."""
    titles = {
        "one_off": "One means switched off at a time; *over* is the time over everything on:",
        "cumulative": "Switched on one after the other; *over* is the time over everything off:",
    }
    text = [f"On {cpu['volume']['title']}."]
    for key, title in titles.items():
        rows = [
            [
                row["name"],
                span(row["seconds"]),
                f"{row['over_first']:.3g}x",
                f"{row['dice']:.4f}",
                span(at(gpu, key, n, "seconds")),
            ]
            for n, row in enumerate(cpu[key])
        ]
        text += [title, table(["variant", "seconds", "over", "mean Dice", "GPU seconds"], rows)]
    return "\n\n".join(text)


def curves(cpu: Result, gpu: Result | None) -> str:
    """Return Dice and time over the two settings with defaults."""
    text = [
        "Means over the held-out heads "
        + ", ".join(cpu["heads"])
        + " at 0.75 mm, each in several windows. The defaults are chosen here, not on brain-t1."
    ]
    for key, title in (("overlap", "overlap"), ("keep_ratio", "keep ratio")):
        rows = [
            [
                f"{row['value']:g}",
                f"{row['dice']:.4f}",
                f"{row['seconds']:.3g}",
                f"{row['gmacs']:.1f}",
                number(at(gpu, key, n, "seconds")),
            ]
            for n, row in enumerate(cpu[key])
        ]
        text.append(table([title, "mean Dice", "seconds", "GMACs", "GPU seconds"], rows))
    return "\n\n".join(text)


def profile(cpu: Result, gpu: Result | None, before: Result | None) -> str:
    """Return where the default run spends its time, now and before."""
    rows = []
    for name, case in cpu["cases"].items():
        for part, seconds in case["seconds"].items():
            share = case["shares"].get(part)
            rows.append(
                [
                    name,
                    part.replace("_", " "),
                    number(seconds),
                    EMPTY if share is None else percent(share),
                    number(_before(before, name, part)),
                    number(at(gpu, "cases", name, "seconds", part)),
                ]
            )
    head = ["scan", "part", "seconds", "share", "seconds before", "GPU seconds"]
    text = (
        "*Before*: the run of the brain model as it was before this comparison was built, on the "
        "same scan."
    )
    operators = table(
        [f"operator, on {cpu['operators_of']}", "share", "calls"],
        (
            [f"`{row['name']}`", percent(row["share"]), str(row["calls"])]
            for row in cpu["operators"]
        ),
    )
    return "\n\n".join([text, table(head, rows), operators])


def _before(before: Result | None, case: str, part: str) -> float | None:
    return at(before, "first_run_parts_median", part) if case == "template-256" else None


def floor(cpu: Result, gpu: Result | None) -> str:
    """Return how far each part is from what the machine could do."""
    text = (
        f"Measured in the same run: {cpu['rates']['operations'] / 1e12:.3g} TFLOP/s in a 2048^3 "
        f"matrix product in {cpu['precision']}, {cpu['rates']['bytes'] / 1e9:.3g} GB/s in a large "
        "copy, reads and writes counted. The floor of a part is the longer of its operations and "
        f"its unavoidable bytes at these rates. On {cpu['volume']['title']}."
    )
    rows = [
        [
            name,
            number(row["operations"] / 1e9),
            number(row["bytes"] / 1e6),
            number(row["seconds"]),
            number(row["floor"]),
            f"{row['times']:.3g}x",
            number(at(gpu, "parts", name, "times")) + ("x" if gpu else EMPTY),
        ]
        for name, row in cpu["parts"].items()
    ]
    head = ["part", "10^9 operations", "MB", "seconds", "floor", "over floor", "GPU over floor"]
    return "\n\n".join([text, table(head, rows)])


def network(cpu: Result, gpu: Result | None) -> str:
    """Return the network alone."""
    shape = "x".join(map(str, cpu["window"]))
    text = (
        f"One {shape} window with a ball of tissue, random weights, {cpu['precision']}: "
        "`python -m benchmarks.network` needs no more than a checkout and torch."
    )
    rows = [
        [
            row["name"] if row["name"] == cpu["rows"][0]["name"] else f"keep ratio {row['name']}",
            span(row["seconds"], 1e-3),
            number(row["gmacs"], ".1f"),
            f"{row['dense_over_this']:.3g}x",
            span(at(gpu, "rows", n, "seconds"), 1e-3),
            number(at(gpu, "rows", n, "dense_over_this")) + ("x" if gpu else EMPTY),
        ]
        for n, row in enumerate(cpu["rows"])
    ]
    head = ["network", "milliseconds", "GMACs", "dense over this", "GPU milliseconds",
            "GPU dense over this"]  # fmt: skip
    return "\n\n".join([text, table(head, rows)])


def published(wall: Result | None) -> str:
    """Return the claims of others, with ours below them."""
    rows = [[claim.who, claim.claim, claim.measured] for claim in CLAIMS]
    for name, case in (wall or {}).items():
        ratios = {v["what"]: f"{v['value']:.3g}x" for v in case["verdicts"] if v["unit"] == "x"}
        said = "; ".join(f"{what}: {value}" for what, value in ratios.items())
        rows.append(
            [
                f"this project, {name}",
                said,
                "whole volume from its voxels to labels on its own grid, "
                "on the machine above; arms in turn in one process, medians",
            ]
        )
    text = (
        "The methods differ in task, data, hardware and in what was timed, so the rows say what "
        "each is; they are not a ranking."
    )
    return "\n\n".join([text, table(["who", "claim", "what was measured"], rows)])
