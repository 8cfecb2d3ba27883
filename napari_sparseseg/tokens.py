"""The token grid of a volume, and the trace of what happened to each token."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError, OutputError
from napari_sparseseg.files.atomic import TEMPORARY, flush, settle
from napari_sparseseg.methods import METHODS, Fate, View
from napari_sparseseg.trace_reading import read_arrays, read_facts, read_map
from napari_sparseseg.undisturbed import undisturbed

TRACE_FILES = (
    "importance.nii.gz",
    "kept.nii.gz",
    "depth.nii.gz",
    "blocks.nii.gz",
    "confidence.nii.gz",
    "dependencies.npz",
    "trace.json",
)
"""Every file that a trace can consist of; dependencies only where a method has any."""
TRACE_FORMAT = 3
_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # a member of an archive that is encrypted or packed in another way
)


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """The volume divided into patches.

    Attributes
    ----------
    shape : tuple of int
        Number of tokens along each axis.
    patch : tuple of int
        Patch in model voxels.
    affine : ndarray
        ``(4, 4)``, token index to the RAS millimetres of the token's centre.
    """

    shape: tuple[int, int, int]
    patch: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def over(
        cls,
        shape: tuple[int, ...],
        affine: NDArray[np.float64],
        patch: int = 8,
    ) -> TokenGrid:
        """Divide a model-space volume into patches; the last ones may reach past its end.

        Parameters
        ----------
        shape : tuple of int
            Model voxels.
        affine : ndarray
            ``(4, 4)`` M, model voxel index to RAS mm. The grid's own affine is
            ``M @ [diag(p) | (p - 1) / 2]``.
        patch : int
            Edge p of a patch in model voxels.
        """
        x, y, z = (-(-n // patch) for n in shape)
        to_voxel = np.diag([patch, patch, patch, 1.0])
        to_voxel[:3, 3] = (patch - 1) / 2
        return cls((x, y, z), (patch, patch, patch), affine @ to_voxel)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(np.prod(self.shape))

    def centre(self, token: int) -> NDArray[np.float64]:
        """Return the centre of a token, ``(3,)`` RAS mm, by its place in the flattened grid."""
        index = np.array(np.unravel_index(token, self.shape), dtype=np.float64)
        return self.affine[:3, :3] @ index + self.affine[:3, 3]


@dataclass(frozen=True, eq=False)
class Dependencies:
    """Which tokens the tokens of one window attended to in the last block.

    Attributes
    ----------
    tokens : ndarray of int
        ``(n,)`` place of each token in the flattened token grid of the volume.
    kept : ndarray of uint8
        ``(n, n)``; by query and key, the number of heads whose gate kept the dependency.
    heads : int
        Number of heads.
    """

    tokens: NDArray[np.int32]
    kept: NDArray[np.uint8]
    heads: int


@dataclass(frozen=True, eq=False)
class TokenTrace:
    """What the network did to every token of a volume.

    Where windows overlap, a token's record is that of the window it lies most central in.

    Attributes
    ----------
    grid : TokenGrid
        Where the tokens are.
    method : str
        Registered sparsifier whose rule it was; says what can be shown (``methods.METHODS``).
    stages : tuple of int
        Number of encoder blocks before each place where it decided.
    air : ndarray of bool
        ``grid.shape``; the token held only background and never entered block 1.
    importance : ndarray of float32
        ``(stages, *grid.shape)`` score at each stage; NaN where it was not scored.
    left_stage : ndarray of uint8
        ``grid.shape``; the stage (from 1) at which it left for good, 0 if it did not.
    ran : ndarray of bool
        ``(blocks, *grid.shape)``; the token was among the rows that the block was given.
    dependencies : tuple of Dependencies
        One for each window, if the method has any; a token is the query of one of them only.
    confidence : ndarray of float32
        ``grid.shape``; probability of the most probable class, averaged over the patch. NaN
        where the network was shown nothing, and everywhere if it was not recorded.
    """

    grid: TokenGrid
    method: str
    stages: tuple[int, ...]
    air: NDArray[np.bool_]
    importance: NDArray[np.float32]
    left_stage: NDArray[np.uint8]
    ran: NDArray[np.bool_]
    dependencies: tuple[Dependencies, ...] = ()
    confidence: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        if not self.confidence.size:
            unknown = np.full(self.grid.shape, np.nan, dtype=np.float32)
            object.__setattr__(self, "confidence", unknown)

    @property
    def num_blocks(self) -> int:
        """Number of encoder blocks."""
        return len(self.ran)

    @property
    def depth(self) -> NDArray[np.uint8]:
        """``grid.shape``; encoder blocks that the token ran through."""
        return self.ran.sum(axis=0, dtype=np.uint8)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """True where the token ran through every block."""
        return np.asarray(self.ran.all(axis=0))

    @property
    def reactivations(self) -> NDArray[np.uint8]:
        """``grid.shape``; how often the token ran a block after it had skipped the one before."""
        came_back = self.ran[1:] & ~self.ran[:-1]
        return (came_back & ~self.air).sum(axis=0, dtype=np.uint8)

    @property
    def views(self) -> tuple[View, ...]:
        """The maps that the method can show."""
        return METHODS[self.method].views

    @property
    def fate(self) -> Fate:
        """What happened to the tokens that did not go on."""
        return METHODS[self.method].fate

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in total, air, kept, pruned, exited and reactivated.

        The first is the sum of the next four; reactivated ones are among the pruned.
        """
        air, kept = int(self.air.sum()), int(self.kept.sum())
        others = self.grid.size - air - kept
        exited = others if self.fate == "exited" else 0
        return {
            "total": self.grid.size,
            "air": air,
            "kept": kept,
            "pruned": others - exited,
            "exited": exited,
            "reactivated": int((self.reactivations > 0).sum()),
        }

    def attended(self, token: int) -> NDArray[np.float32] | None:
        """Return how much of each token's information a token was allowed to gather.

        Parameters
        ----------
        token : int
            Place of the query in the flattened token grid.

        Returns
        -------
        ndarray or None
            ``grid.shape`` share of the heads of the last block that kept the dependency, NaN
            for tokens outside its window; None if the token attended to nothing.
        """
        for window in self.dependencies:
            (row,) = np.nonzero(window.tokens == token)
            if len(row) and window.kept[row[0]].any():
                shares = np.full(self.grid.size, np.nan, dtype=np.float32)
                shares[window.tokens] = window.kept[row[0]] / window.heads
                return shares.reshape(self.grid.shape)
        return None

    def percentile(self) -> NDArray[np.float32]:
        """Rank of each token among those scored at its stage, 0 (least) to 1 (most important).

        Raw scores are logarithms that only their order gives a meaning; their rank is what the
        sparsifier uses. NaN where the token was not scored.
        """
        ranks = np.full(self.importance.shape, np.nan, dtype=np.float32)
        for stage, scores in enumerate(self.importance):
            scored = np.isfinite(scores)
            order = np.argsort(np.argsort(scores[scored], kind="stable"), kind="stable")
            ranks[stage][scored] = order / max(1, len(order) - 1)
        return ranks

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write every map as NIfTI on the token grid, the dependencies, and the rest as JSON.

        Parameters
        ----------
        folder : str or Path
            Made if it does not exist (and unmade on failure); other files in it are left alone.
        overwrite : bool
            Whether an older trace in it may be replaced.

        Raises
        ------
        OutputError
            If the folder holds a trace already, or cannot be written. Nothing is left half
            written: all files are prepared in a hidden folder in it and then moved out.
        """
        folder = Path(folder)
        present = [name for name in TRACE_FILES if (folder / name).exists()]
        if present and not overwrite:
            raise OutputError(
                f"{folder} already holds a trace ({present[0]}); choose another folder or allow "
                "overwriting."
            )
        missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as staging:
                self._write_to(Path(staging))
                with undisturbed():
                    _move(Path(staging), folder)
        except BaseException as error:
            for path in missing:
                with suppress(OSError):
                    path.rmdir()
            if isinstance(error, OSError):
                raise OutputError(
                    f"The trace cannot be written to {folder} ({error.strerror or error}); "
                    "choose a folder that can be written."
                ) from error
            raise

    def _write_to(self, folder: Path) -> None:
        import nibabel as nib

        maps: dict[str, NDArray[Any]] = {
            "importance": np.moveaxis(self.importance, 0, -1),
            "kept": self.kept.astype(np.uint8),
            "depth": self.depth,
            "blocks": np.moveaxis(self.ran, 0, -1).astype(np.uint8),
            "confidence": self.confidence,
        }
        for name, values in maps.items():
            image = nib.Nifti1Image(values, self.grid.affine)
            image.set_sform(self.grid.affine, code=1)
            nib.save(image, folder / f"{name}.nii.gz")
        if self.dependencies:
            arrays: dict[str, NDArray[Any]] = {
                "heads": np.array([window.heads for window in self.dependencies])
            }
            for number, window in enumerate(self.dependencies):
                arrays[f"tokens{number}"], arrays[f"kept{number}"] = window.tokens, window.kept
            np.savez_compressed(folder / "dependencies.npz", **arrays)  # type: ignore[arg-type]
        facts = {
            "format": TRACE_FORMAT,
            "method": self.method,
            "grid": {
                "shape": self.grid.shape,
                "patch": self.grid.patch,
                "affine": self.grid.affine.tolist(),
            },
            "stages": self.stages,
            "num_blocks": self.num_blocks,
            "tokens": self.counts(),
            "air": self.air.astype(int).flatten().tolist(),
            "left_stage": self.left_stage.flatten().tolist(),
            "sha256": _checksums(folder),
        }
        (folder / "trace.json").write_text(json.dumps(facts))

    @classmethod
    def load(cls, folder: str | Path) -> TokenTrace:
        """Read a trace that :meth:`save` wrote.

        Raises
        ------
        InputError
            If the folder holds no complete trace.
        """
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError

        folder = Path(folder)
        try:
            facts = read_facts(folder)
            if facts["format"] != TRACE_FORMAT or facts["method"] not in METHODS:
                raise ValueError("a trace of another version")
            if facts.get("sha256", now := _checksums(folder)) != now:
                raise ValueError("maps of several traces: a process was killed as it wrote one")
            shape = tuple(facts["grid"]["shape"])
            grid = TokenGrid(
                shape, tuple(facts["grid"]["patch"]), np.array(facts["grid"]["affine"])
            )
            air = np.array(facts["air"], dtype=bool).reshape(shape)
            left = np.array(facts["left_stage"], dtype=np.uint8).reshape(shape)
            stages = tuple(facts["stages"])
            scores = read_map(folder, "importance", (*shape, len(stages)))
            importance = np.moveaxis(scores, -1, 0).astype(np.float32)
            blocks = read_map(folder, "blocks", (*shape, facts["num_blocks"]))
            ran = np.moveaxis(blocks, -1, 0).astype(bool)
            confidence = read_map(folder, "confidence", shape).astype(np.float32)
            kept = _read_dependencies(folder / "dependencies.npz", grid.size)
            return cls(grid, facts["method"], stages, air, importance, left, ran, kept, confidence)
        except (*_DAMAGE, ImageFileError, HeaderDataError) as error:
            raise InputError(
                f"{folder} holds no complete trace; run the segmentation again with a trace."
            ) from error


def _move(staging: Path, folder: Path) -> None:
    for name in TRACE_FILES:
        if (staging / name).exists():
            flush(staging / name)
            os.replace(staging / name, folder / name)
        else:  # an older trace had one
            (folder / name).unlink(missing_ok=True)
    settle(folder)


def _checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each map of a trace, by its file."""
    maps = (folder / name for name in TRACE_FILES if name != "trace.json")
    return {map.name: sha256(map.read_bytes()).hexdigest() for map in maps if map.exists()}


def _read_dependencies(file: Path, size: int) -> tuple[Dependencies, ...]:
    if not file.exists():
        return ()
    data = read_arrays(file)
    windows = tuple(
        Dependencies(data[f"tokens{number}"], data[f"kept{number}"], int(heads))
        for number, heads in enumerate(data["heads"])
    )
    for window in windows:
        n = len(window.tokens)
        if window.tokens.dtype.kind not in "iu" or window.tokens.ndim != 1:
            raise ValueError("the tokens are no places")
        if window.kept.shape != (n, n) or (
            n and not 0 <= window.tokens.min() <= window.tokens.max() < size
        ):
            raise ValueError("the dependencies are of another trace")
    return windows
