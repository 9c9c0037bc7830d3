"""The errors and the page that lists them."""

import re
from pathlib import Path

from xmslurm_repro import errors

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def _classes():
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ReproError)
    ]


def test_every_error_stands_in_the_reference_with_its_exit_status():
    rows = re.findall(r"^\| (\d+) \| (`.*?) \|", PAGE.read_text(), flags=re.MULTILINE)
    listed = {
        (int(status), code) for status, codes in rows for code in re.findall(r"`([\w-]+)`", codes)
    }
    listed.add((errors.RunFailedError.exit_status, errors.RunFailedError.code))

    assert {(error.exit_status, error.code) for error in _classes()} == listed


def test_errors_of_different_kinds_end_with_different_statuses():
    own = [e for e in _classes() if "exit_status" in vars(e)]

    assert len({e.exit_status for e in own}) == len(own)


def test_no_code_is_used_twice():
    codes = [error.code for error in _classes()]

    assert len(set(codes)) == len(codes)
