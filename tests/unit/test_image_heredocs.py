"""Here-documents in Dockerfiles, in words that every builder knows."""

from __future__ import annotations

import json
import subprocess

import pytest

from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.heredocs import translate_heredocs


def steps(text):
    translated = translate_heredocs(text)
    assert translated is not None
    return translated.text.splitlines()


def shell_of(line):
    """What a step in the exec form prints when it runs here."""
    words = json.loads(line.partition(" ")[2].partition("[")[1] + line.partition("[")[2])
    return subprocess.check_output(words, text=True)


def test_a_file_without_any_is_left_alone():
    assert translate_heredocs("FROM a\nRUN echo '<<EOF' && cat <<< x\n# RUN <<EOF\n") is None


def test_a_script_is_one_step():
    first, run, last = steps('FROM a\nRUN <<EOF\nx=1\necho "x is $x"\nEOF\nCMD b\n')

    assert ("FROM a", "CMD b") == (first, last)
    assert "x is 1\n" == shell_of(run)


def test_input_of_a_command_is_the_shells_business():
    (run,) = steps("RUN cat <<-'EOF' | tr a-z A-Z\n\t$none \\\n\thello\n\tEOF\n")

    assert "$NONE \\\nHELLO\n" == shell_of(run)


def test_a_script_may_name_its_interpreter():
    (run,) = steps("RUN <<EOF\n#!/usr/bin/env python3\nprint('from', 'python')\nEOF\n")

    assert "from python\n" == shell_of(run)


def test_a_script_that_fails_fails():
    (run,) = steps("RUN <<EOF\n#!/bin/sh\nexit 3\nEOF\n")

    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        shell_of(run)


def test_the_shell_of_the_dockerfile_runs_it_until_the_next_stage():
    text = 'FROM a\nSHELL ["/bin/bash", "-ec"]\nRUN <<E\necho $BASH_VERSION\nE\nFROM b\nRUN <<E\n:\nE\n'
    lines = steps(text)

    assert shell_of(lines[2])[0].isdigit()
    assert 'RUN ["/bin/sh","-c",":\\n"]' == lines[4]


def test_flags_and_continued_lines_stay():
    lines = steps("RUN --network=none \\\n  <<EOF\nls\nEOF\nRUN a && \\\n  b\n")

    assert 'RUN --network=none ["/bin/sh","-c","ls\\n"]' == lines[0]
    assert ["RUN a && \\", "  b"] == lines[1:]


def test_copied_documents_become_files_of_the_context():
    translated = translate_heredocs(
        'COPY --chown=1:1 <<"ONE" <<TWO other /srv/\n$one\nONE\ntwo\nTWO\n'
    )

    assert (
        'COPY --chown=1:1 [".xmslurm-heredoc/0/ONE",".xmslurm-heredoc/1/TWO","other","/srv/"]\n'
        == translated.text
    )
    assert {
        ".xmslurm-heredoc/0/ONE": b"$one\n",
        ".xmslurm-heredoc/1/TWO": b"two\n",
    } == translated.files


def test_variables_that_a_builder_would_fill_in_are_refused():
    with pytest.raises(ImageError, match="holds variables"):
        translate_heredocs("COPY <<EOF /f\n$version\nEOF\n")


def test_one_without_an_end_is_refused():
    with pytest.raises(ImageError, match="EOF of the Dockerfile has no end"):
        translate_heredocs("RUN <<EOF\nls\n")
