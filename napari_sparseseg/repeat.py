"""A run from its report: what it was told, and whether it gave the same labels again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sparseseg.errors import DeviceError, InputError, ModelError
from napari_sparseseg.means import Means
from napari_sparseseg.run_settings import RunSettings

if TYPE_CHECKING:
    from napari_sparseseg.volume import Volume
    from napari_sparseseg.weights import ModelInfo

LARGEST_REPORT = 2**26
"""Bytes of a report that are read at most: a page's data can hold some megabytes."""

_LARGEST_SEED = 2**53  # what JSON carries exactly in every language
_LONGEST_TEXT = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")

Outcome = Literal["same", "differs", "another scan"]


@dataclass(frozen=True)
class RunRecord:
    """What a report says that a repetition needs; every value was checked.

    Attributes
    ----------
    model, weights_sha256 : str
        Name of the model, and checksum of its file.
    setting : float or None
        Value of the setting, None where there was none to set.
    sparsifier : str
        Method or control that decided.
    seed : int
        Seed of a control.
    device, precision : str
        Where and how it was computed.
    means : Means
        The switches of the run.
    overlap : float
        Least common part of neighbouring windows.
    part : str
        Mark of the part of the input that was segmented, "" where it had one only.
    scan_sha256, labels_sha256 : str
        Checksums of the scan and of its labels; "" where the report has none.
    versions, computer : mapping
        What else a result can depend on.
    """

    model: str
    weights_sha256: str
    setting: float | None
    sparsifier: str
    seed: int
    device: str
    precision: str
    means: Means
    overlap: float
    part: str
    scan_sha256: str
    labels_sha256: str
    versions: Mapping[str, str]
    computer: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path) -> RunRecord:
        """Read a report, or the data that lie beside a page.

        Parameters
        ----------
        path : str or Path
            A ``.json`` file; for an ``.html`` page the ``.json`` file of the same name is read.

        Raises
        ------
        InputError
            If it cannot be read, is damaged, or holds too little to repeat the run.
        """
        file = Path(path)
        if file.suffix.lower() == ".html":
            file = file.with_suffix(".json")
        try:
            with file.open("rb") as stream:
                text = stream.read(LARGEST_REPORT + 1)
        except OSError as error:
            raise InputError(
                f"The report {file} cannot be read ({error.strerror}); check the path."
            ) from error
        if len(text) > LARGEST_REPORT:
            raise InputError(f"{file.name} is too large for a report; choose another file.")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{file.name} is no report: it is damaged or not JSON; choose one that "
                "'sparseseg segment --report' wrote."
            ) from error
        return cls.of(data, file.name)

    @classmethod
    def of(cls, data: Any, name: str = "The report") -> RunRecord:
        """Take what a report says.

        Parameters
        ----------
        data : dict
            The report, or the data of a page that holds one.
        name : str
            What to call it in messages.

        Raises
        ------
        InputError
            If something is missing or is not what a report can say.
        """
        if isinstance(data, dict) and isinstance(data.get("report"), dict):
            data = data["report"]
        try:
            return cls(**_decoded(data))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{name} does not hold what a repetition needs, or was damaged; choose a report "
                "that this version of 'sparseseg segment --report' wrote."
            ) from error

    def settings(self, model: ModelInfo | None = None) -> RunSettings:
        """Return what the run was told.

        Parameters
        ----------
        model : ModelInfo, optional
            Where its weights are, if they are not among the shipped models.

        Raises
        ------
        ModelError
            If there are no such weights.
        DeviceError
            If there is no such device.
        InputError
            If the model cannot run with the rest.
        """
        settings = RunSettings(
            self._found(model),
            self.setting,
            self.sparsifier,
            self.seed,
            self.device,
            self.precision,
            self.means,
            self.overlap,
        ).checked()
        self._check_device()
        return settings

    def _found(self, model: ModelInfo | None) -> ModelInfo:
        """Return the model that has the very weights of the run."""
        from napari_sparseseg.weights import checksum, models

        if model is not None:
            if (model.sha256 or checksum(model.path)) != self.weights_sha256:
                raise ModelError(
                    f"{model.name} has other weights than those of the report ({self.model}); "
                    "give the file that it was made with."
                )
            return model
        shipped = models()
        for info in shipped:
            if info.sha256 == self.weights_sha256:
                return info
        if self.model in {info.name for info in shipped}:
            raise ModelError(
                f"The installed {self.model} has other weights than those of the report; install "
                "the version that the report names, or give the weights file with --model."
            )
        raise ModelError(
            f"The report was made with {self.model}, which is not installed; give its weights "
            "file with --model."
        )

    def _check_device(self) -> None:
        from napari_sparseseg.devices import resolve_device

        try:
            resolve_device(self.device)
        except DeviceError as error:
            raise DeviceError(
                f"The report was made on '{self.device}', which is not available here; repeat it "
                "where it is, or leave --from-report out and give its settings as options."
            ) from error

    def changes(self, report: Mapping[str, Any]) -> list[str]:
        """List what is not as it was and can change labels: "torch was 2.8.0 and is 2.9.1 now".

        Parameters
        ----------
        report : mapping
            The report of the repetition.
        """
        before = {**self.versions, **self.computer}
        now = {**report["versions"], **report["computer"]}
        return [
            f"{name} was {before.get(name, 'unknown')} and is {value} now"
            for name, value in now.items()
            if before.get(name) != str(value)
        ]

    def check_scan(self, scan: Volume, *, other_scan: bool = False) -> None:
        """Make sure that a scan is the one of the report.

        Parameters
        ----------
        scan : Volume
            The scan, checked.
        other_scan : bool
            Whether the settings are meant for another one.

        Raises
        ------
        InputError
            If it is another one, or the report does not tell.
        """
        from napari_sparseseg.report import volume_checksum

        if other_scan:
            return
        if not self.scan_sha256:
            raise InputError(
                "The report does not tell which scan it was made of, so that nothing can be "
                "repeated; add --other-scan to use its settings all the same."
            )
        if volume_checksum(scan) != self.scan_sha256:
            raise InputError(
                "This is not the scan of the report (its checksum differs); choose that scan, or "
                "add --other-scan to use the settings on this one."
            )

    def outcome(self, checksums: Mapping[str, str]) -> Outcome:
        """Tell how a run with these settings ended.

        Parameters
        ----------
        checksums : mapping
            Those of its report.
        """
        if checksums["scan"] != self.scan_sha256:
            return "another scan"
        return "same" if checksums["labels"] == self.labels_sha256 else "differs"


def _decoded(report: Any) -> dict[str, Any]:
    """Check the values of a report; any of several errors where one is not what it can be."""
    setting, sums = report["setting"], report.get("checksums", {})
    means = report["means"]
    if means.keys() != {field.name for field in fields(Means)}:
        raise ValueError("other switches")
    return {
        **{key: _text(report[key]) for key in ("model", "sparsifier", "device", "precision")},
        "part": _text(report["part"]),
        "weights_sha256": _sha256(report["weights_sha256"]),
        "setting": None if setting is None else _number(setting["value"]),
        "seed": _seed(report["seed"]),
        "means": Means(**{name: _switch(value) for name, value in means.items()}),
        "overlap": _number(report["overlap"], below=1.0),
        "scan_sha256": _sha256(sums["scan"]) if sums else "",
        "labels_sha256": _sha256(sums["labels"]) if sums else "",
        "versions": {_text(k): _text(v) for k, v in report["versions"].items()},
        "computer": {_text(k): _text(str(v)) for k, v in report["computer"].items()},
    }


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise TypeError("no short text")
    return value


def _sha256(value: Any) -> str:
    if not _SHA256.fullmatch(_text(value)):
        raise ValueError("no checksum")
    return str(value)


def _number(value: Any, below: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    if not 0 <= value < below:
        raise ValueError("no usable number")
    return float(value)


def _seed(value: Any) -> int:
    if type(value) is not int or not -_LARGEST_SEED <= value <= _LARGEST_SEED:
        raise TypeError("no seed")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("no switch")
    return value
