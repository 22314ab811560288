"""Errors: which are Python's own as well, and what they carry beside their sentence."""

from __future__ import annotations

import pickle

import pytest

from omni_sdk import errors
from omni_sdk.errors import InputError, MemoryBudgetError, OmniError, SettingsError


def test_some_are_pythons_own_as_well():
    known = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, OmniError)]
    also = {error.__name__: error.__bases__[1:] for error in known if len(error.__bases__) > 1}
    assert also == {"InputError": (ValueError,), "SettingsError": (ValueError,), "MemoryBudgetError": (MemoryError,)}
    assert all(name in errors.__doc__ for name in also)


def test_a_place_told_further_leaves_the_remedy_last():
    error = SettingsError("Expected a, got b - at c", hint="do d").within("omni.toml")
    assert isinstance(error, SettingsError)
    assert str(error) == "Expected a, got b - at c in omni.toml\n  hint: do d"
    assert error.hint == "do d"
    assert str(InputError("Expected a, got b - at c").within("d")) == "Expected a, got b - at c in d"


def test_the_sum_is_carried_as_numbers():
    error = MemoryBudgetError("Expected a, got b - at c", hint="d", parts={"session": 5})
    assert error.parts == {"session": 5}
    assert MemoryBudgetError("Expected a, got b - at c").parts == {}
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.hint, again.parts) == (str(error), "d", {"session": 5})


@pytest.mark.parametrize("hint", [None, "e"])
def test_a_remedy_stands_on_a_line_of_its_own(hint):
    assert str(OmniError("a", hint=hint)) == ("a" if hint is None else "a\n  hint: e")
