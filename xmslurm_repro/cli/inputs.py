"""``--input NAME=PATH``."""

from __future__ import annotations

from collections.abc import Sequence

from xmslurm_repro.errors import UsageError


def read_inputs(
    words: Sequence[str], *, must_have_path: bool = False
) -> tuple[tuple[str, str], ...]:
    """
    Read names of inputs, each with its path on the cluster; empty where none is given.

    Raises:
        UsageError: Naming the word that is wrong.
    """
    from xmslurm_repro.model.work import check_input_name

    inputs: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        try:
            check_input_name(name)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if (equals or must_have_path) and not path.startswith("/"):
            raise UsageError(f"--input {word}: an absolute path on the cluster belongs after `=`")
        if name in inputs:
            raise UsageError(f"the input {name} is given twice")
        inputs[name] = path
    return tuple(sorted(inputs.items()))
