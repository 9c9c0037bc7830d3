"""Replicas and groups, on a real Slurm and on a machine without one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.cluster_places import Place, fresh_token, local_place, slurm_place
from tests.cluster_support import scratch_state, submission
from tests.testbed.bed import Testbed
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.run import RunState
from xmslurm_repro.model.work import Network, Resources
from xmslurm_repro.ports.cluster import Member, Submission


@pytest.fixture(scope="module")
def slurm(testbed: Testbed) -> Iterator[Place]:
    with slurm_place(testbed) as there:
        yield there


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Iterator[Place]:
    with scratch_state(tmp_path_factory.mktemp("local") / "state") as seen:
        yield local_place(seen)


@pytest.fixture(params=["slurm", "local"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def replicas(place: Place, script: str, count: int, **changes: object) -> Submission:
    values: dict[str, object] = {"resources": Resources(replicas=count), "network": Network.HOST}
    return submission(
        place.image(), ["bash", "-c", script], token=fresh_token(), **{**values, **changes}
    )


def group(
    place: Place,
    *jobs: tuple[str, str, Resources],
    options: tuple[tuple[str, str], ...] = (),
) -> Submission:
    members = tuple(
        Member(
            name=name,
            image=place.image(),
            workdir="/xm/code",
            resources=resources,
            network=Network.HOST,
            options=options,
        )
        for name, _, resources in jobs
    )
    return submission(
        place.image(),
        *(["bash", "-c", script] for _, script, _ in jobs),
        token=fresh_token(),
        group=members,
        resources=jobs[0][2],
        network=Network.HOST,
        options=options,
    )


def play_group(place: Place, wanted: Submission):
    async def scenario(cluster: ShellCluster):
        return await place.finish(cluster, await launch_group(place, cluster, wanted))

    return place.run(scenario)


async def launch_group(place: Place, cluster: ShellCluster, wanted: Submission):
    runs = await place.launch(cluster, wanted)
    return {run_id: job_id.replace("_", "+") for run_id, job_id in runs.items()}


TELLS = """
echo "rank $RANK of $WORLD_SIZE, here $LOCAL_RANK of $LOCAL_WORLD_SIZE on node $NODE_RANK"
echo "at $MASTER_ADDR:$MASTER_PORT"
echo "$XMSLURM_REPLICA" >"/xm/outputs/rank-$XMSLURM_REPLICA"
[[ $MASTER_ADDR:$MASTER_PORT == $XMSLURM_RENDEZVOUS_ADDRESS:$XMSLURM_RENDEZVOUS_PORT ]] || exit 9
"""


def test_replicas_know_their_rank_and_where_to_meet(place: Place):
    wanted = replicas(place, TELLS, 3)
    run_id = wanted.tasks[0].run_id

    (seen,) = place.play(wanted)

    assert seen.state is RunState.COMPLETED, seen
    outcome = seen.outcomes[-1]
    assert ["rank-0", "rank-1", "rank-2"] == [o.path for o in outcome.outputs]
    lines = place.log_of(run_id).decode().splitlines()
    assert [0, 1, 2] == sorted(
        int(found[1])
        for line in lines
        if (found := re.fullmatch(r"(\d): rank \1 of 3, here \d of \d on node \d", line))
    )
    meetings = {
        line.partition(" at ")[2] or line.partition(": ")[2] for line in lines if "at " in line
    }
    assert 1 == len({re.sub(r"^at ", "", meeting) for meeting in meetings})
    facts = dict(outcome.facts)
    assert "3" == facts["replicas"]
    assert ["0", "0", "0"] == [facts[f"replica_{rank}_exit_code"] for rank in range(3)]
    assert outcome.image == wanted.image.manifest.digest
    own = place.attempt_folder(run_id, outcome.attempt) / "replicas" / "1" / "log"
    assert "rank 1 of 3" in own.read_text()


def test_replicas_over_nodes_count_those_beside_them(slurm: Place):
    wanted = replicas(slurm, TELLS, 3, resources=Resources(replicas=3, nodes=2))

    (seen,) = slurm.play(wanted)

    assert seen.state is RunState.COMPLETED, seen
    text = slurm.log_of(wanted.tasks[0].run_id).decode()
    assert {"0", "1"} == set(re.findall(r"on node (\d)", text))
    assert {"1", "2"} == set(re.findall(r"here \d of (\d)", text))
    nodes = {value for name, value in seen.outcomes[-1].facts if name.endswith("_node")}
    assert 2 == len(nodes)


def test_one_replica_that_fails_ends_the_others(place: Place):
    wanted = replicas(place, "[[ $RANK == 1 ]] && exit 5; sleep 300", 2)

    (seen,) = place.play(wanted)

    assert (RunState.FAILED, 5) == (seen.state, seen.outcomes[-1].exit_code)
    assert seen.reason == "replica 1: exit code 5"


def test_gpus_are_dealt_to_replicas(slurm: Place):
    wanted = replicas(
        slurm,
        'echo "gpu ${CUDA_VISIBLE_DEVICES-none}"',
        2,
        resources=Resources(replicas=2, gpus=1, gpu_type="fake", nodes=1),
    )

    (seen,) = slurm.play(wanted)

    assert seen.state is RunState.COMPLETED, seen
    said = slurm.log_of(wanted.tasks[0].run_id).decode()
    assert ["0: gpu 0", "1: gpu 1"] == sorted(said.splitlines())


LEARNS = """
echo "learner of $XMSLURM_JOB_GROUP_SIZE: $XMSLURM_JOB_GROUP_NAME $XMSLURM_JOB_GROUP_INDEX"
echo "actors on $XMSLURM_JOB_GROUP_ACTOR_1_NODELIST"
echo learnt >/xm/outputs/model
"""
ACTS = 'echo "actor $XMSLURM_REPLICA meets $XMSLURM_JOB_GROUP_LEARNER_ADDRESS"; sleep 0.5'


def test_the_members_of_a_group_start_together_and_know_of_each_other(place: Place):
    wanted = group(
        place, ("learner", LEARNS, Resources()), ("actor-1", ACTS, Resources(replicas=2))
    )

    seen = play_group(place, wanted)

    assert [RunState.COMPLETED] * 2 == [each.state for each in seen], seen
    assert ["model"] == [o.path for o in seen[0].outcomes[-1].outputs]
    assert () == seen[1].outcomes[-1].outputs
    learner = place.log_of(wanted.tasks[0].run_id).decode()
    actor = place.log_of(wanted.tasks[1].run_id).decode()
    assert learner.startswith("learner of 2: learner 0\nactors on ")
    assert "actors on \n" not in learner
    assert {"0: actor 0 meets 127.0.0.1", "1: actor 1 meets 127.0.0.1"} == set(actor.splitlines())


def test_a_member_that_fails_ends_the_group(place: Place):
    wanted = group(place, ("bad", "exit 3", Resources()), ("good", "sleep 300", Resources()))

    seen = play_group(place, wanted)

    assert [RunState.FAILED, RunState.CANCELLED] == [each.state for each in seen]
    assert seen[1].reason == "another process of the job did not end well"


def test_a_group_that_is_cancelled_says_so(place: Place):
    wanted = group(place, *((name, "echo begun; sleep 300", Resources()) for name in "ab"))

    async def scenario(cluster: ShellCluster):
        runs = await launch_group(place, cluster, wanted)
        for run_id in runs:
            async for chunk in cluster.logs(run_id, attempt=None, follow=True):
                if b"begun" in chunk:
                    break
        await cluster.cancel(list(runs.values()))
        return await place.finish(cluster, runs)

    seen = place.run(scenario)

    assert [RunState.CANCELLED] * 2 == [each.state for each in seen]


def test_a_group_is_started_again_as_a_whole(place: Place):
    wanted = group(
        place,
        ("a", "echo begin; [[ $XMSLURM_RESTART_COUNT == 1 ]] || exit 42; echo done", Resources()),
        ("b", "echo begin; sleep 1; echo done", Resources()),
        options=(("requeue-on-exit-code", "42"),),
    )

    seen = play_group(place, wanted)

    assert [[RunState.PREEMPTED, RunState.COMPLETED]] * 2 == [
        [outcome.state for outcome in each.outcomes] for each in seen
    ]
    # No attempt cuts short what an earlier one printed.
    logs = [
        place.log_of(each.outcomes[0].run_id, outcome.attempt)
        for each in seen
        for outcome in each.outcomes
    ]
    assert [b"begin\n", b"begin\ndone\n"] == logs[:2]
    assert b"begin\ndone\n" == logs[3]
