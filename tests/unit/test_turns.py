"""Requests wait in order, no longer than asked, and not in vain."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from omni_sdk.binding import Interrupt
from omni_sdk.errors import MemoryBudgetError
from omni_sdk.turns import Turns

ME = threading.get_ident()
LATER = 1e12


class Models:
    def __init__(self, *holders, loads=False):
        self.held, self.loads = set(holders), loads

    def holders(self):
        return self.held

    def loading(self):
        return self.loads


def refuse(why):
    raise MemoryBudgetError(why)


def test_the_first_in_the_queue_and_whoever_holds_a_model_have_their_turn():
    models = Models()
    turns = Turns(None, models)
    with turns.lock:
        first, second = turns.join(None), turns.join(None)
        assert turns.is_first(first)
        assert not turns.is_first(second)
        models.held = {ME}
        assert turns.is_first(second)
        turns.leave(first)
        models.held = set()
        assert turns.is_first(second)


@pytest.mark.parametrize(
    ("models", "why"), [(Models(), "no model is in use"), (Models(ME), "every model in use"), (Models(5), "within 0 s")]
)
def test_waiting_ends_where_it_is_in_vain_or_too_long(models, why):
    turns = Turns(0 if 5 in models.held else None, models)
    with turns.lock, pytest.raises(MemoryBudgetError, match=why):
        turns.wait_for_change(0, refuse, first=True)
    assert turns.waiting == set()


def test_a_run_is_refused_with_its_own_sum():
    refusal = MemoryBudgetError("the sum")
    turns = Turns(0, Models(5))
    with turns.lock, pytest.raises(MemoryBudgetError) as caught:
        turns.wait(refusal, 0)
    assert caught.value is refusal


@pytest.mark.parametrize(("first", "models"), [(False, Models()), (True, Models(loads=True)), (True, Models(ME, 5))])
def test_waiting_for_what_ends_by_itself_goes_on_until_told(first, models):
    turns = Turns(None, models)
    timer = threading.Timer(0.05, turns.told)
    with turns.lock:
        timer.start()
        turns.wait_for_change(0, refuse, first=first)
    timer.join()
    assert turns.waiting == set()


def test_an_interrupt_ends_the_wait():
    turns, interrupt = Turns(None, Models(5)), Interrupt()
    timer = threading.Timer(0.05, interrupt.fire)
    with turns.lock:
        ticket = turns.join(interrupt)
        timer.start()
        with pytest.raises(CancelledError):
            turns.wait_for_change(LATER, refuse, first=True)
        turns.leave(ticket)
        turns.forget(ME)
        turns.check_interrupt()
    timer.join()


def test_a_forked_child_waits_for_nobody():
    turns = Turns(None, Models())
    lock = turns.lock
    turns.join(None)
    turns.after_fork()
    assert turns.lock is not lock
    with turns.lock:
        assert turns.is_first(turns.join(None))
