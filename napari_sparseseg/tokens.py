"""The token grid of a volume, and the trace of what happened to each token."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError, OutputError

TRACE_FILES = ("importance.nii.gz", "kept.nii.gz", "depth.nii.gz", "trace.json")
_DAMAGE = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError)


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


@dataclass(frozen=True, eq=False)
class TokenTrace:
    """What the network did to every token of a volume.

    Where windows overlap, a token's record is that of the window it lies most central in.

    Attributes
    ----------
    grid : TokenGrid
        Where the tokens are.
    stages : tuple of int
        Number of encoder blocks before each stage.
    num_blocks : int
        Number of encoder blocks.
    air : ndarray of bool
        ``grid.shape``; the token held only background and never entered block 1.
    importance : ndarray of float32
        ``(stages, *grid.shape)`` score at each stage; NaN where it was not scored.
    pruned_stage : ndarray of uint8
        ``grid.shape``; the stage (from 1) at which it was pruned, 0 if it was not.
    depth : ndarray of uint8
        ``grid.shape``; encoder blocks that the token ran through.
    """

    grid: TokenGrid
    stages: tuple[int, ...]
    num_blocks: int
    air: NDArray[np.bool_]
    importance: NDArray[np.float32]
    pruned_stage: NDArray[np.uint8]
    depth: NDArray[np.uint8]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """True where the token ran through every block."""
        return self.depth == self.num_blocks

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in total, air, kept, pruned and exited."""
        return {
            "total": self.grid.size,
            "air": int(self.air.sum()),
            "kept": int(self.kept.sum()),
            "pruned": int((self.pruned_stage > 0).sum()),
            "exited": 0,
        }

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
        """Write ``importance``, ``kept`` and ``depth`` as NIfTI on the token grid, and JSON.

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
            written: all files are prepared beside the folder and then moved in.
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
            with tempfile.TemporaryDirectory(dir=folder, prefix=".trace-") as staging:
                self._write_to(Path(staging))
                for name in TRACE_FILES:
                    os.replace(Path(staging) / name, folder / name)
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
        }
        for name, values in maps.items():
            image = nib.Nifti1Image(values, self.grid.affine)
            image.set_sform(self.grid.affine, code=1)
            nib.save(image, folder / f"{name}.nii.gz")
        facts = {
            "format": 1,
            "grid": {
                "shape": self.grid.shape,
                "patch": self.grid.patch,
                "affine": self.grid.affine.tolist(),
            },
            "stages": self.stages,
            "num_blocks": self.num_blocks,
            "tokens": self.counts(),
            "air": self.air.astype(int).flatten().tolist(),
            "pruned_stage": self.pruned_stage.flatten().tolist(),
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
            facts = json.loads((folder / "trace.json").read_text())
            shape = tuple(facts["grid"]["shape"])
            grid = TokenGrid(
                shape, tuple(facts["grid"]["patch"]), np.array(facts["grid"]["affine"])
            )
            air = np.array(facts["air"], dtype=bool).reshape(shape)
            pruned = np.array(facts["pruned_stage"], dtype=np.uint8).reshape(shape)
            stages = tuple(facts["stages"])
            importance = np.moveaxis(_read_map(folder, "importance"), -1, 0).astype(np.float32)
            depth = _read_map(folder, "depth").astype(np.uint8)
            if importance.shape != (len(stages), *shape) or depth.shape != shape:
                raise ValueError("the maps are of another trace")
            return cls(grid, stages, int(facts["num_blocks"]), air, importance, pruned, depth)
        except (*_DAMAGE, ImageFileError, HeaderDataError) as error:
            raise InputError(
                f"{folder} holds no complete trace; run the segmentation again with a trace."
            ) from error


def _read_map(folder: Path, name: str) -> NDArray[Any]:
    import nibabel as nib

    image: Any = nib.load(folder / f"{name}.nii.gz")
    return np.asarray(image.dataobj)
