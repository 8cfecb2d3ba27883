"""The ``sparseseg`` command: the engine without a window.

What a user can put right ends in one line on the standard error and exit code 2; nothing but
wanted results goes to the standard output.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from napari_sparseseg import __version__
from napari_sparseseg.errors import Cancelled, InputError, SparseSegError
from napari_sparseseg.methods import METHODS, Control, check_sparsifier, control_of, controls
from napari_sparseseg.weights import DEFAULT_MODEL, ModelInfo, find_model, models

if TYPE_CHECKING:
    from napari_sparseseg.outputs import Outputs
    from napari_sparseseg.session import Segmentation

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
    try:
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


@app.command()
def segment(
    scan: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="The scan: one 3D frame in a .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The label map to write, in one of the same formats, on the scan's own grid: "
            "one class index per voxel, 0 is background.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="A model that 'sparseseg models' lists, or the path of a .safetensors file.",
        ),
    ] = DEFAULT_MODEL,
    keep_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Fraction of each window's tokens that run through every encoder block, above "
            "0 and up to 1 (dense: nothing is pruned). If left out, the model's own default.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="For methods with a threshold in place of a keep ratio ('sparseseg models' "
            "tells): above 0 and up to 1, where nothing is pruned.",
            show_default=False,
        ),
    ] = None,
    sparsifier: Annotated[
        str,
        typer.Option(
            metavar="|".join(controls()),
            help="A control in place of the model's own rule: is the pruning informed?",
            show_default=False,
        ),
    ] = "",
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda[:n]",
            help="Processor: auto is the first graphics card, or else the CPU.",
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16",
            help="Number format: auto is bfloat16 where the processor is faster with it.",
        ),
    ] = "auto",
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write what happened to every token to: importance (score per stage),"
            " kept (0 or 1) and depth (encoder blocks) as NIfTI on the token grid, and "
            "trace.json.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="File to write the facts of the run to: tokens, GMACs (10^9 multiply-"
            "accumulates), seconds, memory (MB), voxels and millilitres per structure.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist already.")
    ] = False,
) -> None:
    """Segment a scan.

    All outputs are written when the work is done, or none of them.
    """
    with _one_interrupt():
        from napari_sparseseg.outputs import Outputs

        outputs = Outputs(output, trace, report, overwrite)
        outputs.check(scan)
        settings = {"--keep-ratio": keep_ratio, "--threshold": threshold}
        result = _segment(scan, outputs, model, settings, device, precision, sparsifier)
    print(_summarise(result, output))


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


def _segment(
    scan: Path,
    outputs: Outputs,
    model: str,
    settings: dict[str, float | None],
    device: str,
    precision: str,
    sparsifier: str,
) -> Segmentation:
    """Read, segment and write; whatever can be refused is refused before the long work."""
    with _progress_bar() as progress:
        progress(0, 1, "Loading the model")
        from napari_sparseseg.files import read_volume
        from napari_sparseseg.methods import checked_setting
        from napari_sparseseg.segmenter import Segmenter

        info = find_model(model)
        rule = sparsifier or info.method
        check_sparsifier(rule, info.method, info.name)
        control = control_of(info.method, rule)
        setting = _chosen_setting(settings, control, rule)
        if setting is not None:
            checked_setting(setting, control)
        segmenter = Segmenter(info, device, precision, sparsifier)
        progress(0, 1, "Reading the scan")
        volume = read_volume(scan)
        with segmenter.open(volume, progress) as session:
            result = session.run(setting, progress)
        progress(0, 1, "Writing")
        outputs.write(result)
    return result


def _chosen_setting(
    settings: dict[str, float | None], control: Control | None, rule: str
) -> float | None:
    """Return the value of the option that sets this rule; refuse the others."""
    for option, value in settings.items():
        if value is not None and (control is None or option != control.option):
            use = f"its {control.name} is set with {control.option}" if control else "leave it out"
            raise InputError(
                f"'{rule}' has no {option.removeprefix('--').replace('-', ' ')}; {use}."
            )
    return settings[control.option] if control else None


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Turn Ctrl-C into :class:`Cancelled`; a second one must not disturb the tidying up."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise Cancelled("The run was cancelled; nothing was written.") from None
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show progress on the standard error where that is a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=1,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        bar_format="{desc:<28}{percentage:3.0f} % |{bar}| {elapsed}",
    ) as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.n, bar.total = done, total
            bar.set_description_str(what)

        yield progress


def _describe(info: ModelInfo) -> str:
    return (
        f"{info.name}\n"
        f"  {info.title}\n"
        f"  for {info.modality}\n"
        f"  {len(info.classes) - 1} structures, computed at {info.spacing:g} mm; "
        f"{_default(info)}; licence {info.license}\n"
        f"  {info.path}"
    )


def _default(info: ModelInfo) -> str:
    control = METHODS[info.method].control
    if control is None:
        return "nothing is pruned"
    return f"default {control.name} {info.default_setting:g} ({control.option})"


def _summarise(result: Segmentation, output: Path) -> str:
    report: dict[str, Any] = result.report
    tokens, gmacs, seconds = report["tokens"], report["gmacs"], report["seconds"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {value:.1f}"
        for name, value in seconds.items()
        if name != "total"
    )
    share = 100 * gmacs["run"] / gmacs["dense"]
    rule, setting = f"sparsifier {report['sparsifier']}", report["setting"]
    if setting is not None:
        rule += f", {setting['name']} {setting['value']:g}"
    return (
        f"Labels   {output}\n"
        f"Model    {report['model']}, {rule}, "
        f"{report['device']}, {report['precision']}\n"
        f"Tokens   {tokens['total']}: {tokens['kept']} kept to the last block, "
        f"{tokens['pruned']} pruned, {tokens['exited']} exited, {tokens['air']} air\n"
        f"Compute  {gmacs['run']:.3g} GMACs, {share:.0f} % of the dense {gmacs['dense']:.3g}\n"
        f"Time     {seconds['total']:.1f} s ({parts})\n"
        f"Memory   {report['peak_memory_mb']:.0f} MB at the most\n"
        f"{report['notice']}"
    )


if __name__ == "__main__":
    main()
