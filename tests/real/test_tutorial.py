"""The tutorial does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.cli import REPOSITORY
from tests.support.documents import examples, matches

PAGE = REPOSITORY / "docs" / "tutorial.md"
MARK = "=== what was printed ends here ==="


def test_every_command_of_the_tutorial_prints_what_it_says(tmp_path):
    found = examples(PAGE.read_text())
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "xmslurm-repro"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xmslurm_repro "$@"\n')
    program.chmod(0o755)
    script = "\n".join(f"{example.command}\nprintf '\\n%s\\n' '{MARK}'" for example in found)

    done = subprocess.run(
        ["bash", "-eu"],
        input=script,
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "XMSLURM_REPRO_HOME": str(tmp_path / "store"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout
    printed = done.stdout.split(f"\n{MARK}\n")[:-1]
    assert len(printed) == len(found)
    for example, actual in zip(found, printed, strict=True):
        # What a terminal shows as a live table, and takes away again, is lines in a pipe.
        lines = [line for line in actual.splitlines(True) if not re.match(r"\d+/\d+ \w+$", line)]
        assert matches(example.output, "".join(lines)), f"line {example.line}:\n{actual}"


def test_the_pages_link_to_files_that_are_there():
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_readme_names_exactly_two_commands_that_set_everything_up():
    text = Path(REPOSITORY / "README.md").read_text()

    assert text.count("```sh\nexamples/quickstart/demo.sh\n```") == 1
    assert text.count("```sh\ntests/run.sh\n```") == 1
