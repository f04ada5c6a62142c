"""The first signal is a wish, the second one stops, and afterwards all is as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from afina.training.signals import CutShort, StopSignals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_wish(number: signal.Signals, exit_code: int) -> None:
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert signals.exit_code == exit_code


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once(second: signal.Signals) -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), second)
        assert signals.received == signal.SIGINT
        assert getattr(caught.value, "exit_code", None) == 128 + second


def test_what_need_not_be_finished_is_left_at_once() -> None:
    with StopSignals() as signals:
        with pytest.raises(CutShort), signals.cutting():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.exit_code == 143
        with pytest.raises(CutShort), signals.cutting():  # nor is it begun
            raise AssertionError
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    with StopSignals() as signals:
        with signals.cutting():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM


def test_handlers_are_put_back_also_after_an_error() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(RuntimeError), StopSignals():
        raise RuntimeError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def run() -> None:
        with StopSignals() as signals:
            seen.extend([signal.getsignal(signal.SIGINT), signals.received, signals.exit_code])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before, None, 130]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup, or for a job that a script runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
