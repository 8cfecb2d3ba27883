"""``sparseseg download``: the one command that goes to the network, and only when it is given."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_sparseseg.cli.shared import one_interrupt, progress_bar
from napari_sparseseg.errors import InputError, ModelError
from napari_sparseseg.weights import models

_STOPPED = "The download was stopped; give the command again to go on."


def download(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A registered model.", show_default=False),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Every registered model that is not here yet.")
    ] = False,
) -> None:
    """Download the weights of a model, or go on with a download that broke off.

    Nothing is ever downloaded without this command.
    """
    from napari_sparseseg.downloads import download

    if bool(model) == everything:
        raise InputError("Nothing says what to download; name one model, or give --all.")
    known = {info.name: info for info in models()}
    if model and model not in known:
        raise ModelError(f"There is no model named '{model}'; choose one of {', '.join(known)}.")
    for info in [known[model]] if model else known.values():
        with one_interrupt(_STOPPED), progress_bar() as progress:
            path = download(info, progress)
        print(f"{info.name}  {path}")
