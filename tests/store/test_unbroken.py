"""Signals wait for a block to end, and then do what they always do."""

import signal
import threading
from types import FrameType

import pytest

from daafl.store.unbroken import unbroken


def test_an_interrupt_waits_until_the_block_has_ended() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with unbroken():
            signal.raise_signal(signal.SIGINT)
            done.append("the write")
        done.append("what follows")
    assert done == ["the write"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_signal_is_heard_once_it_may_be() -> None:
    heard = []

    def handler(number: int, _: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with unbroken():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert heard == []
        assert heard == [signal.SIGTERM] * 2
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_failure_in_the_block_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="no space"), unbroken():
        raise ValueError("no space")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with unbroken():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_have_nothing_to_wait_for() -> None:
    done = []

    def work() -> None:
        with unbroken():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
