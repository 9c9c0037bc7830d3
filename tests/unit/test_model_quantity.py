"""Amounts as people write them."""

from __future__ import annotations

import pytest

from xmslurm_repro.model.quantity import parse_memory_mib, parse_time_limit_minutes


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("2000", 2000),
        ("16G", 16384),
        ("16g", 16384),
        ("16 GiB", 16384),
        ("1T", 1 << 20),
        ("1.5G", 1536),
        ("1K", 1),
        ("1025K", 2),
        ("1GB", 954),
        ("1MB", 1),
        ("2PiB", 2 << 30),
    ],
)
def test_memory_is_read_the_way_sbatch_reads_it_and_rounded_up(text: str, mib: int):
    assert mib == parse_memory_mib(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "G", "1.5.2G", "16 apples", "1e3", "16GG", "1B"])
def test_what_is_no_amount_of_memory_is_refused(text: str):
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_memory_mib(text)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("90:01", 91),
        ("2:30:00", 150),
        ("2:30:30", 151),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("1-12:30:01", 36 * 60 + 31),
        ("0:0:1", 1),
        ("3-0", 3 * 24 * 60),
    ],
)
def test_a_time_limit_has_the_six_forms_of_sbatch(text: str, minutes: int):
    assert minutes == parse_time_limit_minutes(text)


@pytest.mark.parametrize(
    "text", ["", "0", "0:00", "1h", "1-", "-1", "1:2:3:4", "1-1-1", "UNLIMITED"]
)
def test_what_is_no_time_limit_is_refused(text: str):
    with pytest.raises(ValueError, match="no time limit"):
        parse_time_limit_minutes(text)
