"""What we say to Slurm, and what we understand of its answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cluster_support import Blobs, make_image, submission
from xmslurm_repro.cluster.local import LocalScheduler
from xmslurm_repro.cluster.options import directive
from xmslurm_repro.cluster.scheduler import Answer
from xmslurm_repro.cluster.slurm import SlurmScheduler
from xmslurm_repro.cluster.states import parse_states
from xmslurm_repro.errors import SubmitRefusedError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.work import Network, Resources
from xmslurm_repro.ports.cluster import Member

SLURM = SlurmScheduler()


NOTHING = Resources()


def lines_of(resources: Resources = NOTHING, *, tasks: int = 1, **changes: object):
    wanted = submission(
        make_image(Blobs(), []),
        *([["true"]] * tasks),
        token="abcdefgh",
        resources=resources,
        **changes,
    )
    return SLURM.directives(wanted, folder="/state/submit/abcdefgh")


def test_nothing_asked_is_one_task_that_is_not_requeued():
    assert lines_of() == (
        "#SBATCH --job-name=xmslurm-abcdefgh",
        '#SBATCH --comment="a test"',
        "#SBATCH --output=/state/submit/abcdefgh/slurm-%j.out",
        "#SBATCH --open-mode=append",
        "#SBATCH --no-requeue",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=1",
    )


def test_every_resource_is_asked_for():
    resources = Resources(
        cpus=8,
        memory_mib=4096,
        disk_mib=100,
        gpus=2,
        gpu_type="a100",
        time_limit_minutes=90,
        nodes=1,
        gres=(("fast", 1), ("tape", 2)),
    )

    assert set(lines_of(resources)) - set(lines_of()) == {
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=4096M",
        "#SBATCH --tmp=100M",
        "#SBATCH --gres=gpu:a100:2,fast:1,tape:2",
        "#SBATCH --time=90",
        "#SBATCH --nodes=1",
    }


def test_several_tasks_are_an_array():
    lines = lines_of(tasks=5, max_parallel_tasks=2)

    assert "#SBATCH --array=0-4%2" in lines
    assert "#SBATCH --output=/state/submit/abcdefgh/slurm-%A_%a.out" in lines
    assert "#SBATCH --array=0-4" in lines_of(tasks=5)


def test_options_come_last_and_may_allow_a_requeue():
    lines = lines_of(options=(("partition", "gpu"), ("requeue", ""), ("cpus-per-task", "3")))

    assert lines[-3:] == (
        "#SBATCH --partition=gpu",
        "#SBATCH --requeue",
        "#SBATCH --cpus-per-task=3",
    )
    assert "#SBATCH --no-requeue" not in lines


@pytest.mark.parametrize("name", ["array", "job-name", "output", "export", "wrap", "open-mode"])
def test_options_by_which_we_find_the_job_are_ours(name: str):
    with pytest.raises(SubmitRefusedError, match=f"sets itself were given: {name}"):
        lines_of(options=((name, "x"),))


@pytest.mark.parametrize("value", ["a\nb", "a\n#SBATCH --wrap=evil", 'a"b', "a\\b", "\x1b[1m"])
def test_a_value_that_sbatch_would_read_otherwise_is_refused(value: str):
    with pytest.raises(SubmitRefusedError, match="cannot be given to sbatch"):
        directive("comment", value)


@pytest.mark.parametrize("name", ["", "-p", "a b", "par=x", "Partition", "a\nb"])
def test_a_name_that_is_no_long_option_is_refused(name: str):
    with pytest.raises(SubmitRefusedError, match="no option of sbatch"):
        directive(name, "x")


def test_a_title_that_sbatch_could_not_read_is_made_readable():
    lines = lines_of(title='a "title"\nwith \\ everything 🚀')

    assert '#SBATCH --comment="a  title  with   everything 🚀"' in lines


def test_a_slice_of_a_gpu_is_a_type_of_its_own():
    alone = lines_of(Resources(gpus=2, gpu_type="a100_1g.5gb", gres=(("shard", 3),)))
    spread = lines_of(Resources(gpus=1, gpu_type="a100_1g.5gb", replicas=2))

    assert "#SBATCH --gres=gpu:a100_1g.5gb:2,shard:3" in alone
    assert "#SBATCH --gpus-per-task=a100_1g.5gb:1" in spread


def test_each_replica_gets_its_own_processors_and_gpus():
    lines = lines_of(Resources(replicas=4, cpus=3, gpus=2, gpu_type="a100", nodes=2))

    assert {
        "#SBATCH --ntasks=4",
        "#SBATCH --cpus-per-task=3",
        "#SBATCH --gpus-per-task=a100:2",
        "#SBATCH --nodes=2",
    } <= set(lines)
    assert not [line for line in lines if "gres" in line]


def member(name: str, resources: Resources = NOTHING, *options: tuple[str, str]) -> Member:
    return Member(
        name=name,
        image=make_image(Blobs(), []),
        workdir="/",
        resources=resources,
        network=Network.HOST,
        options=options,
    )


def test_a_group_is_one_heterogeneous_job():
    lines = lines_of(
        tasks=2,
        group=(
            member("a", Resources(cpus=2), ("dependency", "afterok:7"), ("partition", "gpu")),
            member("b", NOTHING, ("dependency", "afterok:7"), ("partition", "cpu")),
        ),
    )

    cut = lines.index("#SBATCH hetjob")
    assert {"#SBATCH --dependency=afterok:7", "#SBATCH --partition=gpu"} <= set(lines[:cut])
    assert "#SBATCH --partition=cpu" in lines[cut:]
    assert not [line for line in lines[cut:] if "dependency" in line]
    assert [2, 2] == [lines.count(line) for line in lines if "job-name" in line]
    assert not [line for line in lines if "--array" in line]


ANSWERS = [
    (0, "", Answer.ACCEPTED),
    (0, "sbatch: warning: can't run 1 processes on 2 nodes", Answer.ACCEPTED),
    (1, "sbatch: error: invalid partition specified: nowhere", Answer.REFUSED),
    (1, "Batch job submission failed: Invalid account or account/partition", Answer.REFUSED),
    (1, "Batch job submission failed: Invalid job array specification", Answer.REFUSED),
    (1, "Batch job submission failed: Requested node configuration is not", Answer.REFUSED),
    (1, "Batch job submission failed: Socket timed out on send/recv operation", Answer.UNKNOWN),
    (1, "Batch job submission failed: Zero Bytes were transmitted or received", Answer.UNKNOWN),
    (124, "", Answer.UNKNOWN),
    (137, "Slurm temporarily unable to accept job, sleeping and retrying", Answer.UNKNOWN),
    (1, "Unable to contact slurm controller (connect failure)", Answer.WAIT),
    (
        1,
        "error: QOSMaxSubmitJobPerUserLimit\nJob violates accounting/QOS policy (job submit limit)",
        Answer.WAIT,
    ),
    (1, "error: AssocMaxSubmitJobLimit\nJob violates accounting/QOS policy", Answer.WAIT),
    (1, "Job violates accounting/QOS policy (job submit limit, user's size", Answer.REFUSED),
]


@pytest.mark.parametrize(("status", "stderr", "expected"), ANSWERS)
def test_an_answer_is_a_yes_a_no_a_not_now_or_a_not_known(
    status: int, stderr: str, expected: Answer
):
    assert SLURM.classify(status, stderr) is expected


def test_states_are_read_by_job_name_and_array_index():
    output = (
        "12|RUNNING|xmslurm-abcdefgh|None\n"
        "13_4|PENDING|xmslurm-ijklmnop|Priority\n"
        "14|CANCELLED by 2001|xmslurm-qrstuvwx\n"
        "15|RUNNING|somebody-else|None\n"
        "16|RUNNING|xmslurm-UPPER|None\n"
        "17|SOMETHING_NEW|xmslurm-abcdefgh|None\n"
        "not a line\n"
    )

    found = [(s.token, s.task, s.job_id, s.state, s.word, s.reason) for s in parse_states(output)]

    assert found == [
        ("abcdefgh", None, "12", RunState.RUNNING, "RUNNING", None),
        ("ijklmnop", 4, "13_4", RunState.PENDING, "PENDING", "Priority"),
        ("qrstuvwx", None, "14", RunState.CANCELLED, "CANCELLED", None),
    ]


def test_tasks_on_one_line_are_told_apart():
    found = parse_states("7_[0-2,5,9-10%3]|CANCELLED|xmslurm-abcdefgh|None")

    assert [s.task for s in found] == [0, 1, 2, 5, 9, 10]
    assert found[-1].job_id == "7_10"


def test_a_machine_without_scheduler_knows_no_options():
    wanted = submission(make_image(Blobs(), []), ["true"], token="abcdefgh")
    with pytest.raises(SubmitRefusedError, match="options: partition"):
        LocalScheduler().directives(replace(wanted, options=(("partition", "x"),)), folder="/x")
