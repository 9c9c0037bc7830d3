"""Words through the login shells that clusters have; sshd runs ``$SHELL -c LINE``."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.testbed.processes import program
from xmslurm_repro.transport.words import MARK, remote_line

WORDS = [
    ["a b", "it's", '"', "$HOME", "`id`", "$(id)", "*", "~", "-n", ""],
    ["\\", "\\\\", "\\'", "\\n", "a\\", "!", "!!", "it's!", "a\nb", "ends\n", "\t\r"],
    ["grün", "日本語", "\udcff", "\x01\x7f"],
    ["".join(map(chr, range(1, 128)))],
]


@pytest.mark.parametrize("words", WORDS, ids=["plain", "hard", "beyond ASCII", "all"])
@pytest.mark.parametrize("shell", ["sh", "bash", "tcsh", "fish"])
def test_words_arrive_to_the_byte_through_any_login_shell(shell: str, words: list[str], tmp_path):
    line = remote_line(["printf", "%s\\0", *words])

    done = subprocess.run(
        [program(shell), "-c", line],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        check=False,
    )

    assert done.stderr == b""
    assert done.stdout == MARK + b"\0".join(map(os.fsencode, words)) + b"\0"
