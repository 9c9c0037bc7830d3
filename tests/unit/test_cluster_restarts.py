"""What options say of starting again and of the time limit."""

import pytest

from xmslurm_repro.cluster.restarts import Restarts, read_restarts
from xmslurm_repro.errors import SubmitRefusedError


def test_ours_are_parted_from_the_schedulers_options():
    ours, rest = read_restarts(
        (
            ("partition", "gpu"),
            ("requeue-max-attempts", "3"),
            ("requeue-on-exit-code", "42,43"),
            ("requeue-on-timeout", ""),
            ("timeout-grace", "90"),
            ("timeout-signal", "SIGUSR1"),
        )
    )

    assert (("partition", "gpu"),) == rest
    assert ours == Restarts(
        exit_codes=(42, 43), on_timeout=True, most=3, signal_name="USR1", grace_seconds=90
    )


def test_nothing_asked_is_nothing_said():
    ours, _ = read_restarts(())

    assert not ours.is_asked_for
    assert [] == list(ours.values())


def test_a_requeue_before_the_limit_needs_time_for_it():
    assert 120 == read_restarts((("requeue-on-timeout", "yes"),))[0].grace_seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requeue-on-exit-code", "0"),
        ("requeue-on-exit-code", "256"),
        ("requeue-on-exit-code", ""),
        ("requeue-on-exit-code", "4;rm"),
        ("requeue-on-timeout", "perhaps"),
        ("requeue-max-attempts", "-1"),
        ("timeout-signal", "KILL"),
        ("timeout-signal", "NOSUCH"),
        ("timeout-grace", "0"),
        ("timeout-grace", "65536"),
    ],
)
def test_what_makes_no_sense_is_refused(name, value):
    with pytest.raises(SubmitRefusedError, match=name):
        read_restarts(((name, value),))


def test_a_job_that_must_not_be_requeued_is_not_told_to_requeue_itself():
    with pytest.raises(SubmitRefusedError, match="must not be requeued"):
        read_restarts((("no-requeue", ""), ("requeue-on-exit-code", "3")))
