"""``sparseseg segment --from-report``: before the run and after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    from napari_sparseseg.repeat import RunRecord
    from napari_sparseseg.session import Segmentation
    from napari_sparseseg.volume import Volume

EXIT_DIFFERS = 1

_OUTCOMES = {
    "same": "the labels are the same as those of the report",
    "differs": "the labels differ from those of the report",
    "another scan": "none: the settings of the report were used on another scan",
}


@dataclass(frozen=True)
class Repeated:
    """A run that is done again.

    Parameters
    ----------
    record : RunRecord
        What its report says.
    files : tuple of Path
        Where it says so; no output may replace them.
    other_scan : bool
        Whether its settings are meant for another scan.
    """

    record: RunRecord
    files: tuple[Path, ...]
    other_scan: bool

    @classmethod
    def of(cls, report: Path | None, other_scan: bool) -> Repeated | None:
        """Read a report; None if there is none.

        Raises
        ------
        InputError
            If it cannot be used, or something was asked that needs one.
        """
        if report is None:
            if other_scan:
                raise InputError("--other-scan goes with --from-report; leave it out.")
            return None
        from napari_sparseseg.repeat import RunRecord

        files = (report, report.with_suffix(".json"))  # of a page, the data beside it are read
        return cls(RunRecord.read(report), files, other_scan)

    def part(self, asked: str) -> str:
        """Return the part of the scan to read: that of the report, or of an option for another.

        Raises
        ------
        InputError
            If an option names another one than the report.
        """
        if self.other_scan:
            return asked
        if asked and asked != self.record.part:
            raise InputError(
                f"--part {asked} contradicts the report, which says "
                f"{self.record.part or 'that there was one only'}; leave the option out to repeat "
                "the run."
            )
        return self.record.part

    def check(self, volume: Volume) -> None:
        """Refuse a scan that the report is not of.

        Raises
        ------
        InputError
            If it is another scan and none was asked for, or cannot be segmented.
        """
        self.record.check_scan(volume.validated(), other_scan=self.other_scan)

    def tell(self, result: Segmentation) -> int:
        """Print how the repetition ended, and return the exit code."""
        outcome = self.record.outcome(result.report["checksums"])
        print(f"Repeated {_OUTCOMES[outcome]}")
        if changes := self.record.changes(result.report):
            print(f"Changed  {'; '.join(changes)}")
        return EXIT_DIFFERS if outcome == "differs" else 0
