"""``python -m tests.fuzz``: fuzz every entry point in a process with bounded memory.

A line of JSON for each entry goes to the standard output as soon as it is done.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

from tests.fuzz.entries import entries
from tests.fuzz.fuzzing import fuzz, limit_memory


def main(
    examples: Annotated[int, typer.Option(help="Inputs for each entry point.")] = 100,
    number: Annotated[int, typer.Option("--seed", help="Seed of what is drawn.")] = 0,
    only: Annotated[str, typer.Option(help="Entries whose name has this in it.")] = "",
) -> None:
    """Give spoilt inputs to everything that reads what others wrote."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        todo = [entry for entry in entries(Path(folder)) if only in entry.name]
        limit_memory()
        for entry in todo:
            outcome = fuzz(entry, examples, number)
            outcome.messages = [text.replace(f"{folder}/", "") for text in outcome.messages]
            print(json.dumps(outcome.to_dict()), flush=True)


if __name__ == "__main__":
    typer.run(main)
