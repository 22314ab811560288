"""The ways to compute quantized layers, and what leaving passes out does to them."""

from __future__ import annotations

import pytest

from omni_sdk.errors import SettingsError
from omni_sdk.tools.prepare.arguments import check_target
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, FORMS, QCONV1D_PASSES, QUANTIZED_PASSES, STANDARD, forms

TITLES = [each.title for form in FORMS for each in form.passes]


def titles(form) -> list[str]:
    return [each.title for each in form.passes]


def test_both_are_tried_and_the_standard_operators_first():
    assert forms(operators=True) == FORMS
    assert [form.title for form in FORMS] == ["QLinearConv", "omni::QConv1d"]


@pytest.mark.parametrize("skip", [frozenset(), frozenset(["conv1d"])])
def test_without_our_operators_the_model_stays_standard(skip):
    assert forms(operators=False, skip=skip) == (STANDARD,) and not STANDARD.passes


@pytest.mark.parametrize("title", dict.fromkeys(TITLES))
def test_a_pass_left_out_runs_in_no_form(title):
    for form in forms(operators=True, skip=frozenset([title])):
        whole = next(each for each in FORMS if each.title == form.title)
        assert titles(form) == [each for each in titles(whole) if each != title]


@pytest.mark.parametrize("title", dict.fromkeys(TITLES))
def test_layers_left_out_leave_one_form(title):
    kept = [form.title for form in forms(operators=True, skip=frozenset([title]))]
    assert kept == (["QLinearConv"] if title in ("quantized-conv1d", "conv1d") else ["QLinearConv", "omni::QConv1d"])


def test_layers_on_bytes_become_so_before_what_needs_to_know_them():
    order = titles(FORMS[1])
    assert order[:2] == ["quantized-conv1d", "float-between"]
    assert order[2:] == [each.title for each in CONV1D_PASSES]


@pytest.mark.parametrize("each", [*QUANTIZED_PASSES, *QCONV1D_PASSES], ids=lambda each: each.title)
def test_every_pass_of_a_form_is_for_those_who_have_the_operators(each):
    assert each.needs_operators


@pytest.mark.parametrize("title", dict.fromkeys(TITLES))
def test_every_pass_of_a_form_can_be_left_out(title):
    check_target("cpu", [title])


def test_a_pass_that_there_is_not_cannot():
    with pytest.raises(SettingsError, match="quantized-conv2d"):
        check_target("cpu", ["quantized-conv2d"])
