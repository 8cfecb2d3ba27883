"""Memory that ran out: recognised, told in a sentence, and given back."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from checks import assert_sentence
from shortage import SHORTAGES

from napari_sparseseg.errors import InputError, ModelError, OutOfMemory
from napari_sparseseg.exhaustion import exhausted, forget_locals, giving_back


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_it_is_told_whose_memory_ran_out(shortage: str) -> None:
    error, place = SHORTAGES[shortage]

    assert exhausted(error) == place
    told = f"^The {place} ran out of memory; "
    with pytest.raises(OutOfMemory, match=told) as caught, giving_back():
        raise error
    assert_sentence(caught.value)
    assert ". " not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), OSError(28, "No space left"), InputError("No."), KeyError(12)],
)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    assert exhausted(error) == ""
    with pytest.raises(type(error)) as caught, giving_back():
        raise error
    assert caught.value is error


def test_what_was_taken_for_damage_is_told_as_it_is() -> None:
    error = ModelError("The weights are damaged; reinstall them.")
    error.__cause__ = MemoryError()
    with pytest.raises(OutOfMemory, match="The computer ran out"), giving_back():
        raise error


def test_a_refusal_is_not_told_otherwise() -> None:
    error = OutOfMemory("This scan needs 3 GB; crop it.")
    error.__cause__ = MemoryError()
    with pytest.raises(OutOfMemory, match="This scan needs"), giving_back():
        raise error


def test_what_numpy_and_torch_really_raise_is_recognised() -> None:
    for take in (lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            take()
        assert exhausted(caught.value) == "computer"


class Held:
    """Something large that a function works on."""


def work(seen: list[weakref.ref[Held]]) -> None:
    large = Held()
    seen.append(weakref.ref(large))
    try:
        raise KeyError("first")
    except KeyError as error:
        also = Held()
        seen.append(weakref.ref(also))
        raise ValueError("second") from error


def test_an_error_that_is_kept_holds_nothing_of_what_failed() -> None:
    seen: list[weakref.ref[Held]] = []
    kept: list[BaseException] = []
    try:
        with giving_back():
            work(seen)
    except ValueError as error:
        kept.append(error)
    gc.collect()

    assert kept and kept[0].__traceback__ is not None
    assert [ref() for ref in seen] == [None, None]


def test_the_errors_behind_an_error_are_emptied_too() -> None:
    seen: list[weakref.ref[Held]] = []

    def wrap() -> None:
        try:
            work(seen)
        except ValueError as error:
            raise InputError("third.") from error

    with pytest.raises(InputError) as caught:
        wrap()
    assert seen[0]() is not None
    forget_locals(caught.value)
    gc.collect()
    assert [ref() for ref in seen] == [None, None]
