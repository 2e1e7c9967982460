"""pipeline/interrupt.py: a Ctrl-C that is raised where nobody hears it is not lost."""

import signal

import pytest

from pipeline.interrupt import check_interrupt, describe_interrupt, remember_published, remembering_interrupts


class Finalized:
    """Takes a SIGINT in its finalizer, where Python drops what is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_interrupt_is_raised_by_the_next_check() -> None:
    """The finalizer's KeyboardInterrupt goes nowhere; the check between two steps raises it."""
    with remembering_interrupts():
        check_interrupt()
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            check_interrupt()


def test_an_interrupt_is_raised_at_once_and_forgotten_with_its_command() -> None:
    """As without any of this; and what one command was asked does not stop the next one."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), remembering_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    check_interrupt()


def test_an_interrupt_that_a_library_made_an_error_of_is_raised() -> None:
    """TensorFlow answers a Ctrl-C while it traces with a TypeError; without a Ctrl-C an error stays what it is."""
    with pytest.raises(KeyboardInterrupt), remembering_interrupts():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as err:
            raise TypeError("the two structures differ") from err
    with pytest.raises(TypeError), remembering_interrupts():
        raise TypeError("the two structures differ")


def test_an_interrupted_command_says_what_it_has_published() -> None:
    """What one command has published is no other's."""
    with pytest.raises(KeyboardInterrupt), remembering_interrupts():
        remember_published("eyes/3")
        signal.raise_signal(signal.SIGINT)
    assert "interrupted; eyes/3 was published before that and stays" == describe_interrupt()

    with pytest.raises(KeyboardInterrupt), remembering_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert "interrupted; nothing was published" == describe_interrupt()
