"""The command itself: its parts, how it ends, and what it says of itself."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict
from typing import Annotated, NoReturn

import typer

from napari_sparseseg import __version__
from napari_sparseseg.cli.compare import compare
from napari_sparseseg.cli.download import download
from napari_sparseseg.cli.parts import list_parts
from napari_sparseseg.cli.segment import segment
from napari_sparseseg.cli.sweep import sweep
from napari_sparseseg.errors import Cancelled, SparseSegError
from napari_sparseseg.exhaustion import giving_back
from napari_sparseseg.methods import METHODS
from napari_sparseseg.weights import ModelInfo, models

EXIT_FAILED = 2
EXIT_CANCELLED = 130

# Plain text: boxes and colours would spread an error over several lines.
app = typer.Typer(
    name="sparseseg",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


def main() -> NoReturn:
    """Run the command that the arguments name, and leave with its exit code."""
    # What a library will change in a later version is nothing that a user can put right.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"monai\.")
    try:
        with giving_back():
            app(prog_name="sparseseg")
    except SparseSegError as error:
        print(f"sparseseg: {error}", file=sys.stderr)
        sys.exit(EXIT_CANCELLED if isinstance(error, Cancelled) else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_CANCELLED)
    sys.exit()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sparseseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and stop.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Segment 3D scans with sparse-token transformers and see what the sparsity did.

    Research use only, not for diagnosis.
    """


@app.command("models")
def list_models(
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print all that is known of each model as JSON: class names and "
            "colours, working spacing (mm), architecture, checksum, file.",
        ),
    ] = False,
) -> None:
    """List the installed models."""
    found = models()
    if as_json:
        print(json.dumps([{**asdict(info), "path": str(info.path)} for info in found], indent=2))
    elif found:
        print("\n\n".join(_describe(info) for info in found))
    else:
        print("No models are installed.")


app.command()(segment)
app.command()(sweep)
app.command()(compare)
app.command("parts")(list_parts)
app.command()(download)


@app.command()
def demo() -> None:
    """Open the sample scan in napari, segmented."""
    from importlib.util import find_spec

    if find_spec("napari") is None:
        raise SparseSegError(
            "The demo needs napari, which is not installed; run: pip install "
            "'napari-sparseseg[napari,sample]'."
        )
    from napari_sparseseg.plugin.demo import main as open_demo

    raise typer.Exit(open_demo([]) or 0)


def _describe(info: ModelInfo) -> str:
    return (
        f"{info.name}\n"
        f"  {info.title}\n"
        f"  for {info.modality}\n"
        f"  {len(info.classes) - 1} structures, computed at {info.spacing:g} mm; "
        f"{_default(info)}; licence {info.license}\n"
        f"  {info.path if info.path.exists() else _absent(info)}"
    )


def _absent(info: ModelInfo) -> str:
    return f"not here yet: sparseseg download {info.name}" if info.url else f"{info.path} (missing)"


def _default(info: ModelInfo) -> str:
    control = METHODS[info.method].control
    if control is None:
        return "nothing is pruned"
    return f"default {control.name} {info.default_setting:g} ({control.option})"
