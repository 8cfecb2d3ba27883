"""What the options of ``sparseseg segment`` say of the run, alone or beside a report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sparseseg.errors import InputError
from napari_sparseseg.methods import Control, check_sparsifier, control_of
from napari_sparseseg.run_settings import RunSettings
from napari_sparseseg.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from napari_sparseseg.repeat import RunRecord


@dataclass(frozen=True)
class Asked:
    """The options as they were given; "", "auto" or None where one was left out.

    Parameters
    ----------
    model, sparsifier, device, precision : str
        As for :class:`RunSettings`.
    keep_ratio, threshold : float, optional
        The setting, under the name that its method gives it.
    """

    model: str
    sparsifier: str
    device: str
    precision: str
    keep_ratio: float | None
    threshold: float | None

    def settings(self) -> RunSettings:
        """Return the settings of a run that these options alone decide.

        Raises
        ------
        InputError, ModelError
            If one cannot be used.
        """
        model = find_model(self.model or DEFAULT_MODEL)
        rule = self.sparsifier or model.method
        check_sparsifier(rule, model.method, model.name)
        setting = self._setting(control_of(model.method, rule), rule)
        return RunSettings(
            model, setting, self.sparsifier, device=self.device, precision=self.precision
        ).checked()

    def repeating(self, record: RunRecord) -> RunSettings:
        """Return the settings of a report; an option may name the same, or the weights' file.

        Raises
        ------
        InputError
            If an option says something else than the report.
        ModelError, DeviceError
            If the weights or the device of the report are not there.
        """
        settings = record.settings(find_model(self.model) if self.model else None)
        rule = record.sparsifier
        setting = self._setting(control_of(settings.model.method, rule), rule)
        device = "cuda:0" if self.device == "cuda" else self.device
        for option, asked, recorded in (
            ("--keep-ratio" if self.keep_ratio is not None else "--threshold",
             setting, record.setting),
            ("--sparsifier", self.sparsifier or None, rule),
            ("--device", None if device == "auto" else device, record.device),
            ("--precision", None if self.precision == "auto" else self.precision,
             record.precision),
        ):  # fmt: skip
            if asked is not None and asked != recorded:
                raise InputError(
                    f"{option} {asked} contradicts the report, which says {recorded}; leave the "
                    "option out to repeat the run."
                )
        # a report can be of a run that was not observed; watching changes no label
        return replace(settings, means=replace(settings.means, trace=True))

    def _setting(self, control: Control | None, rule: str) -> float | None:
        """Return the value of the option that sets this rule; refuse the others."""
        settings = {"--keep-ratio": self.keep_ratio, "--threshold": self.threshold}
        for option, value in settings.items():
            if value is not None and (control is None or option != control.option):
                use = (
                    f"its {control.name} is set with {control.option}"
                    if control
                    else "leave it out"
                )
                raise InputError(
                    f"'{rule}' has no {option.removeprefix('--').replace('-', ' ')}; {use}."
                )
        return settings[control.option] if control else None
