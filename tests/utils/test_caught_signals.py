"""What is caught and when, what stays as it was, and where a wait is not given up."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from emloop_mtl.utils import caught_signals
from emloop_mtl.utils.caught_signals import CAUGHT, CaughtSignals
from emloop_mtl.utils.isolated_random import IsolatedRandom
from emloop_mtl.utils.random import host_state, same_host_state
from emloop_mtl.utils.wait_given_up import WaitGivenUp


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in CAUGHT}
    yield
    after = {number: signal.getsignal(number) for number in CAUGHT}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", CAUGHT)
def test_the_first_signal_counts(number: signal.Signals) -> None:
    with CaughtSignals() as signals:
        send(number)
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        assert signals.caught == number
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert signals.caught == number
    with signals:
        assert signals.caught is None


def test_what_ignores_a_closed_terminal_goes_on_to() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with CaughtSignals() as signals:
            send(signal.SIGHUP)
            assert signals.caught is None
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_catches_nothing() -> None:
    before = [signal.getsignal(number) for number in CAUGHT]
    found = []

    def enter() -> None:
        with CaughtSignals():
            found.extend(signal.getsignal(number) for number in CAUGHT)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == before


def test_a_wait_ends_when_its_time_is_over_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caught_signals, "KNOCK", 0.01)
    signals = CaughtSignals()
    signals.patience = lambda: 0.1
    with signals:
        time.sleep(0.15)  # nobody has sent a signal
        began = time.monotonic()
        with pytest.raises(WaitGivenUp):
            send(signal.SIGTERM)
            time.sleep(60)
        assert time.monotonic() - began >= 0.1
        signals.patience = lambda: None
        time.sleep(0.05)
    time.sleep(0.05)  # a late knock would end this process


def test_the_random_state_is_whole_wherever_a_wait_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caught_signals, "KNOCK", 0.001)
    before, generators = host_state(), IsolatedRandom(1)
    for _ in range(8):  # most knocks come while the generators are switched
        signals = CaughtSignals()
        signals.patience = lambda: 0
        with signals:
            send(signal.SIGTERM)
            with pytest.raises(WaitGivenUp):
                while True:
                    with generators:
                        random.random(), np.random.rand(), torch.rand(1)
        assert same_host_state(host_state(), before)
