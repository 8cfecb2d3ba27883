"""How much memory a run will take, from its sizes alone.

Every part is an upper bound that was compared with measured peaks; together they are at most about
three times what a run takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_sparseseg.calls import group_windows
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.network import NetworkConfig
from napari_sparseseg.plan import CPU, Plan

FLOAT = 4  # bytes

_LIBRARIES = 96 * 2**20
"""What libraries load and set aside when they compute for the first time."""


@dataclass(frozen=True)
class Sizes:
    """What the memory of a run depends on.

    Attributes
    ----------
    space : ModelSpace
        The scan's grid and the model grid.
    tokens : tuple of int
        Tokens of each window that enter the network; all of its tokens in a plain dense run.
    shown : int
        Tokens of the volume that the network is shown.
    config : NetworkConfig
        Architecture.
    width : int
        Bytes of a number of the network.
    """

    space: ModelSpace
    tokens: tuple[int, ...]
    shown: int
    config: NetworkConfig
    width: int


@dataclass(frozen=True)
class Needs:
    """Bytes that a run takes.

    Attributes
    ----------
    computer : int
        Of the computer's memory.
    card : int
        Of the graphics card's, 0 where none is used.
    """

    computer: int
    card: int

    def on(self, device: str) -> int:
        """Return the bytes on a processor."""
        return self.computer if device == CPU else self.card


def resampling(space: ModelSpace) -> int:
    """Return the bytes that bringing a scan onto the model grid takes.

    They do not depend on the plan, and are known before anything was read.
    """
    native, image = space.native_shape, FLOAT * math.prod(space.shape)
    slabs = []
    for axis, step in zip(space.native_axes, space.steps, strict=True):
        planes = min(native[axis], int(8 * abs(step)) + 2)
        slabs.append(planes * math.prod(native) // native[axis])
    # the image, normalised, laid on the token grid, and searched for air
    return 4 * image + 3 * FLOAT * max(slabs) + math.prod(native)


def estimate(sizes: Sizes, plan: Plan) -> Needs:
    """Return an upper bound of what a run takes beside the scan and the model.

    Parameters
    ----------
    sizes : Sizes
        Of the run.
    plan : Plan
        How it is run.
    """
    front = _features(sizes) if plan.cached else _image(sizes)
    call = max(_call(sizes, group) for group in group_windows(sizes.tokens, plan.packed))
    joining = _canvas(sizes)
    back = _restoring(sizes)
    laid_out = resampling(sizes.space)
    if plan.device == CPU:
        peak = max(laid_out, _image(sizes) + front + call, front + joining + max(call, back))
        return Needs(_LIBRARIES + peak, 0)
    labels = math.prod(sizes.space.native_shape)
    if plan.stitch == CPU:
        card = max(3 * _image(sizes), _image(sizes) + front + call)
        return Needs(_LIBRARIES + max(laid_out, joining + back), _LIBRARIES + card)
    card = max(3 * _image(sizes), _image(sizes) + front + call, front + joining + max(call, back))
    return Needs(_LIBRARIES + max(laid_out, labels), _LIBRARIES + card)


def _image(sizes: Sizes) -> int:
    """Return the bytes of the image on the token grid."""
    patch = sizes.config.patch
    return FLOAT * math.prod(size + 2 * patch for size in sizes.space.shape)


def _features(sizes: Sizes) -> int:
    """Return the bytes of all windows up to the first stage, as they are kept."""
    config = sizes.config
    maps = 1 + len(config.stages)  # a dense network's features of all stages, at the most
    rows = sum(sizes.tokens) + len(sizes.tokens)
    row = maps * config.dim * sizes.width + 128  # and its place and scores
    return len(sizes.tokens) * math.prod(config.window) * sizes.width + rows * row


def _call(sizes: Sizes, group: slice) -> int:
    """Return the bytes that one call works with, the larger of its two halves."""
    config, width = sizes.config, sizes.width
    tokens, windows = sum(sizes.tokens[group]), len(sizes.tokens[group])
    voxels = windows * math.prod(config.window)
    cells = windows * math.prod(config.grid)
    whole = config.decoder.context == "window"
    cut = voxels * (3 * FLOAT + width) + 3 * tokens * config.patch**3 * width
    encoded = 24 * tokens * config.dim * FLOAT
    rows = encoded // 2  # of which stay while the decoder runs
    if config.sparsifier == "apformer":  # attends in its own way, to one window after the other
        longest = max(sizes.tokens[group]) + 1
        encoded += longest**2 * (120 + 24 * config.heads)
    maps = 6 * cells * config.dim * FLOAT
    # 16 bit numbers are widened in between
    decoded = (cells if whole else tokens) * _decoder_numbers(config) * (FLOAT + width) // 2
    return max(cut + encoded, maps + rows + decoded)


def _decoder_numbers(config: NetworkConfig) -> int:
    """Return how many numbers the decoder holds for a token where it holds most."""
    features, patch = config.decoder.feature_size, config.patch**3
    scores = 3 * patch * config.classes
    if config.decoder.finest == 1:
        return 10**3 * 3 * features * 2 + 4 * patch * features + scores
    return 6**3 * 7 * features * 2 + scores


def _canvas(sizes: Sizes) -> int:
    """Return the bytes of the joined probabilities and of the trace."""
    config = sizes.config
    voxels = sizes.shown * config.patch**3
    cells = _image(sizes) // FLOAT // config.patch**3
    record = cells * (32 + config.depth + FLOAT * len(config.stages))
    if config.sparsifier == "apformer":  # who looked at whom, in each window
        record += sum(n * n for n in sizes.tokens)
    shared = FLOAT * voxels if len(sizes.tokens) > 1 else 0
    return FLOAT * voxels * config.classes + shared + record


_MIXED = 0.3
"""Share of the model voxels that can lie between structures."""


def _restoring(sizes: Sizes) -> int:
    """Return the bytes that bringing labels back to the scan's grid takes."""
    box = min(math.prod(sizes.space.shape), 8 * sizes.shown * sizes.config.patch**3)
    between = int(_MIXED * box) * 2 * 3 * 8  # places as three integers, and those to look at again
    return math.prod(sizes.space.native_shape) + 8 * box + between + 32 * 2**20
