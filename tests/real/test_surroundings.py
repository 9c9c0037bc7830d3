"""What a site wants done around each job: modules to load, things to put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import Place, fresh_token, local_place, outcome_of, slurm_place
from tests.cluster_support import scratch_state, submission
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.script import Surroundings
from xmslurm_repro.errors import NoRuntimeError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.transport.local import LocalTransport


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with scratch_state(tmp_path / "state") as seen:
        yield local_place(seen)


@pytest.fixture
def slurm(testbed: Testbed) -> Iterator[Place]:
    with slurm_place(testbed) as found:
        yield found


def sh(place: Place, script: str):
    return submission(place.image(), ["bash", "-c", script], token=fresh_token())


def module_with_a_runtime(folder: Path) -> Path:
    """A folder that has to be loaded before the runtime of this site is found."""
    folder.mkdir()
    program = folder / "bwrap"
    program.write_text(f'#!/bin/sh\necho "$@" >>{folder}/calls\nexec /usr/bin/bwrap "$@"\n')
    program.chmod(0o755)
    return folder


def test_a_runtime_is_loaded_first_and_the_command_sees_nothing_of_it(place: Place, tmp_path: Path):
    loaded = module_with_a_runtime(tmp_path / "module")
    prepared = replace(
        place,
        surroundings=Surroundings(
            setup=f"echo loading; export OF_THE_SITE=1\nPATH={loaded}:$PATH",
            teardown=f"echo $OF_THE_SITE >{tmp_path}/done; false",
        ),
    )

    wanted = sh(prepared, 'echo "${OF_THE_SITE-not seen}"; [[ $PATH != *module* ]]')
    outcome = outcome_of(prepared.play(wanted))
    log = prepared.log_of(wanted.tasks[0].run_id)

    assert (b"not seen\n", 0) == (log, outcome.exit_code)
    assert "--version" in (loaded / "calls").read_text().splitlines()
    assert "1\n" == (tmp_path / "done").read_text()


def test_a_job_whose_setup_fails_does_not_begin(place: Place):
    broken = replace(
        place, surroundings=Surroundings(setup="[[ $0 == bash ]] || [[ -z ${XM_JOB_ID-} ]]")
    )

    (seen,) = broken.play(sh(broken, "echo ran"))

    assert RunState.FAILED is seen.state
    assert "the cluster's setup ended with exit status 1" == seen.outcomes[-1].reason
    assert b"" == broken.log_of(seen.outcomes[-1].run_id)


def test_what_the_setup_printed_is_told_where_no_runtime_works(place: Place, tmp_path: Path):
    setup = f"echo no such module: bubblewrap; PATH={tmp_path}; false"
    broken = replace(place, surroundings=Surroundings(setup=setup))

    with pytest.raises(NoRuntimeError) as caught:
        broken.run(lambda cluster: cluster.deliver(place.image(), place.blobs, SilentProgress()))

    assert "no such module: bubblewrap" in caught.value.details
    assert "setup" in caught.value.hint


def test_slurm_is_found_where_only_a_profile_puts_it_on_the_path(
    slurm: Place, testbed: Testbed, tmp_path: Path
):
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name not in {"sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo"}:
            (tools / program.name).symlink_to(program)
    env = {**testbed.env, "PATH": str(tools)}
    bare = replace(slurm, make_transport=lambda: LocalTransport(env=env))

    outcome = outcome_of(bare.play(sh(bare, "echo here")))

    assert b"here\n" == bare.log_of(outcome.run_id)
