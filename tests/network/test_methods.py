"""The registry of methods, and that each registered rule is what it declares."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.methods import METHODS, check_sparsifier, control_of, controls
from napari_sparseseg.network import NetworkConfig
from napari_sparseseg.network.sparsifiers import Sparsifier, make_control, make_sparsifier
from tests.network.conftest import small_config


@pytest.mark.parametrize("name", METHODS)
def test_every_method_builds_and_is_of_its_fate(name: str) -> None:
    rule = make_sparsifier(small_config(sparsifier=name))
    assert isinstance(rule, Sparsifier)
    assert rule.fate == METHODS[name].fate
    stages, config = rule.stages(), rule.config
    assert stages == tuple(sorted(set(stages)))
    assert all(0 <= stage < config.depth for stage in stages)


@pytest.mark.parametrize("name", [m for m in METHODS if m != "random"])
def test_a_rule_names_its_method(name: str) -> None:
    assert make_sparsifier(small_config(sparsifier=name)).method is METHODS[name]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_declared_in_full(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert method.about.endswith((".", "?"))
    assert bool(method.source) == (not method.is_control and name != "dense")
    assert method.views
    if method.control is not None:
        assert 0 < method.control.low < 1
        assert 0 < method.control.step < 1


@pytest.mark.parametrize("name", [m for m in METHODS if METHODS[m].fate == "muted"])
def test_dependencies_are_offered_only_where_attention_is_its_own(name: str) -> None:
    shows = [m for m in METHODS.values() if any(v.kind == "dependencies" for v in m.views)]
    assert METHODS[name] in shows
    for method in shows:
        assert make_sparsifier(small_config(sparsifier=method.name)).attends_its_own_way


def test_the_controls_are_those_of_the_issue() -> None:
    assert controls() == ("random", "truncated", "none")


@pytest.mark.parametrize("inner", ["stp", "edge", "dtop", "svit", "apformer"])
def test_random_takes_the_fate_and_the_setting_of_the_rule_that_it_stands_for(inner: str) -> None:
    rule = make_sparsifier(small_config(sparsifier=inner))
    control = make_control("random", rule)
    assert control.fate == rule.fate
    assert control.stages() == rule.stages()
    assert control_of(inner, "random") is METHODS[inner].control
    assert control_of(inner, "truncated") is None
    assert control_of(inner, "none") is None


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown sparsifier 'magic'; choose one of dense, stp"):
        make_sparsifier(NetworkConfig(sparsifier="magic"))


def test_a_model_runs_with_its_own_rule_or_a_control_only() -> None:
    for name in ("stp", *controls()):
        check_sparsifier(name, "stp", "brain-mr-stp")
    with pytest.raises(InputError, match=r"brain-mr-stp cannot run with 'dtop': it was trained"):
        check_sparsifier("dtop", "stp", "brain-mr-stp")
    with pytest.raises(InputError, match=r"there is no such sparsifier; choose one of stp, random"):
        check_sparsifier("magic", "stp", "brain-mr-stp")


def test_reading_the_registry_loads_no_torch() -> None:
    code = "import sys, napari_sparseseg.methods; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
