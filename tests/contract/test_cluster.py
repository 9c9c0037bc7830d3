"""What every cluster promises, tried on this machine and on a real Slurm."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.cluster_places import Place, fresh_token, local_place, outcome_of, slurm_place, ssh_place
from tests.cluster_support import ENV, scratch_state, submission
from tests.testbed.roots import other_suites
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.errors import ClusterError, NotFoundError, SubmitRefusedError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import RunId, RunState
from xmslurm_repro.model.work import Network
from xmslurm_repro.ports.cluster import WantedFile
from xmslurm_repro.ports.progress import SilentProgress

real = pytest.mark.real


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test here runs at every place."""
    if "place" not in metafunc.fixturenames:
        return
    places = [
        "local",
        pytest.param("slurm", marks=real),
        pytest.param("slurm over ssh", marks=real),
    ]
    for suite in other_suites(every=metafunc.config.getoption("--all-slurm")):
        places.append(pytest.param(f"slurm over ssh, {suite}", marks=real))
    metafunc.parametrize("place", places, indirect=True, scope="module")


@pytest.fixture(scope="module")
def place(request, tmp_path_factory) -> Iterator[Place]:
    if request.param == "local":
        with scratch_state(tmp_path_factory.mktemp("local") / "state") as seen:
            yield local_place(seen)
    else:
        kind, _, suite = request.param.partition(", ")
        bed = request.getfixturevalue("testbed_of")(suite or None)
        make = slurm_place if kind == "slurm" else ssh_place
        with make(bed) as there:
            yield there


def test_a_run_leaves_its_exit_code_its_log_and_its_outputs(place: Place):
    token = fresh_token()
    script = "echo hello; echo oops >&2; mkdir /xm/outputs/d; printf abc >/xm/outputs/d/x"

    outcome = outcome_of(place.play(submission(place.image(), ["sh", "-c", script], token=token)))

    assert outcome.state is RunState.COMPLETED
    assert outcome.exit_code == 0
    assert [(o.path, o.size_bytes) for o in outcome.outputs] == [("d/x", 3)]
    assert outcome.outputs[0].sha256 == Digest.sha256(hashlib.sha256(b"abc").hexdigest())
    assert outcome.image == place.image().manifest.digest
    assert place.log_of(outcome.run_id) == b"hello\noops\n"
    assert outcome.log == Digest.sha256(hashlib.sha256(b"hello\noops\n").hexdigest())


def test_a_command_that_fails_fails_the_run_and_keeps_its_outputs(place: Place):
    script = "echo half >/xm/outputs/half; exit 7"

    outcome = outcome_of(
        place.play(submission(place.image(), ["sh", "-c", script], token=fresh_token()))
    )

    assert outcome.state is RunState.FAILED
    assert outcome.exit_code == 7
    assert [o.path for o in outcome.outputs] == ["half"]


def test_a_command_that_is_not_in_the_image_fails_the_run(place: Place):
    outcome = outcome_of(place.play(submission(place.image(), ["nothing"], token=fresh_token())))

    assert outcome.state is RunState.FAILED
    assert outcome.exit_code == 127


def test_a_work_folder_that_is_not_in_the_image_fails_the_run_and_says_so(place: Place):
    wanted = submission(place.image(), ["true"], token=fresh_token(), workdir="/not/there")

    outcome = outcome_of(place.play(wanted))

    assert outcome.state is RunState.FAILED
    assert outcome.exit_code is None
    assert "/not/there" in (outcome.reason or "")


CONNECT = """
    for try in 1 2 3; do
        exec 3<>/dev/tcp/127.0.0.1/$PORT && read -r line <&3 && echo "$line" && exit
        sleep 0.2
    done 2>/dev/null
    echo cut off
"""


@pytest.mark.parametrize(("network", "expected"), [("none", b"cut off\n"), ("host", b"hello\n")])
def test_the_network_is_reached_only_where_it_was_asked_for(
    place: Place, network: str, expected: bytes
):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as caller:
                        caller.sendall(b"hello\n")

        threading.Thread(target=serve, daemon=True).start()
        env = tuple(sorted([*ENV, ("PORT", str(server.getsockname()[1]))]))
        argv = ["bash", "-c", CONNECT]
        wanted = submission(
            place.image(), argv, token=fresh_token(), env=env, network=Network(network)
        )
        outcome = outcome_of(place.play(wanted))
        server.shutdown(socket.SHUT_RDWR)

    assert expected == place.log_of(outcome.run_id)


def test_folders_that_the_command_closed_are_read_all_the_same(place: Place):
    script = "cd /xm/outputs; mkdir -p a/b; echo x >a/b/x; ln -s x a/b/y; chmod 0 a/b/x a/b a"

    outcome = outcome_of(
        place.play(submission(place.image(), ["sh", "-c", script], token=fresh_token()))
    )

    assert ["a/b/x", "a/b/y"] == [o.path for o in outcome.outputs]


def test_many_links_cost_little(place: Place):
    script = "cd /xm/outputs; for i in $(seq 2000); do echo $i; done >n; bash -c 'while read -r i; do ln -s n l$i; done <n'"
    outcome = outcome_of(
        place.play(submission(place.image(), ["bash", "-c", script], token=fresh_token()))
    )

    assert len(outcome.outputs) == 2001
    target = hashlib.sha256(b"n").hexdigest()
    assert {o.sha256.hex for o in outcome.outputs if o.path != "n"} == {target}


NASTY = (
    "",
    " two  blanks ",
    "it's",
    '"quoted"',
    "$HOME `id` $(id) ${PATH}",
    "line\nbreak\n",
    "tab\tand\\backslash\\n",
    "*?[a-z] ~ # ! & | ; < >",
    "größe 名前 🚀",
    "--flag=a b",
    "-n",
    "%s%d %A_%a",
    "x" * 20_000,
)


def test_arguments_arrive_to_the_byte(place: Place):
    argv = ["sh", "probe.sh", *NASTY]

    observations = place.play(submission(place.image(), argv, token=(token := fresh_token())))

    assert [RunState.COMPLETED] == [o.state for o in observations]
    shown = "".join(f"[{word}]\n" for word in NASTY)
    expected = f"argv: {len(NASTY)}\n{shown}cwd: /xm/code\n"
    assert expected == place.log_of(RunId(token=token, task=0)).decode()


def test_the_environment_is_the_given_one_and_nothing_else(place: Place):
    env = tuple(sorted([*ENV, ("NASTY", "a b\n$HOME \"x\" 'y'"), ("EMPTY", ""), ("A.b-c", "odd")]))
    token = fresh_token()
    wanted = submission(place.image(), ["env", "-0"], token=token, env=env)
    run_env = (("XMSLURM_RUN_ID", f"{token}.0"),)
    wanted = replace(wanted, tasks=(replace(wanted.tasks[0], run_env=run_env),))

    outcome = outcome_of(place.play(wanted))

    which = {("XMSLURM_ATTEMPT", outcome.attempt), ("XMSLURM_RESTART_COUNT", "0")}
    given = {*env, *run_env, *which}
    expected = {f"{name}={value}" for name, value in given}
    assert expected == set(place.log_of(outcome.run_id).decode().split("\0")) - {""}


def test_the_command_finds_nothing_of_the_host(place: Place):
    script = """
        for folder in /home /root /work /mnt /srv "$HOME"; do ls -A "$folder" 2>/dev/null; done
        for path in / /xm/code /xm/code/data /usr/bin /xm; do
            touch "$path/new" 2>/dev/null && echo "$path can be written to"
        done
        { echo >>/xm/code/probe.sh; } 2>/dev/null && echo "code can be changed"
        while read -r line; do
            case $line in *:*) printf 'interface %s\\n' "${line%%:*}" ;; esac
        done </proc/net/dev
        uname -n
    """

    outcome = outcome_of(
        place.play(submission(place.image(), ["bash", "-c", script], token=fresh_token()))
    )

    assert place.log_of(outcome.run_id) == b"interface lo\nxm\n"


def test_tmp_is_empty_writable_and_gone_afterwards(place: Place):
    script = "ls -A /tmp; echo x >/tmp/x && ls /tmp && ln -s /tmp/x /xm/outputs/link"

    outcome = outcome_of(
        place.play(submission(place.image(), ["sh", "-c", script], token=fresh_token()))
    )

    assert place.log_of(outcome.run_id) == b"x\n"
    assert [(o.path, o.sha256) for o in outcome.outputs] == [
        ("link", Digest.sha256(hashlib.sha256(b"/tmp/x").hexdigest()))
    ]


def test_output_names_are_exact_and_outputs_can_be_fetched(place: Place):
    names = ["plain", " blank ", "new\nline", "größe", "back\\slash", "a/b/c", "-n"]
    script = (
        'for n; do [[ $n == */* ]] && mkdir -p "${n%/*}"; printf "content of %s" "$n" >"./$n"; '
    )
    script += "done; ln -s plain link; chmod 0 plain"
    argv = ["bash", "-c", f"cd /xm/outputs; {script}", "x", *names]

    outcome = outcome_of(place.play(submission(place.image(), argv, token=fresh_token())))

    assert sorted([*names, "link"]) == [o.path for o in outcome.outputs]

    async def fetch_all(cluster: ShellCluster) -> dict[str, bytes]:
        found = {}
        for name in [*names, "link"]:
            target = io.BytesIO()
            await cluster.fetch(outcome.run_id, outcome.attempt, name, target)
            found[name] = target.getvalue()
        with pytest.raises(NotFoundError):
            await cluster.fetch(outcome.run_id, outcome.attempt, "nothing", io.BytesIO())
        return found

    expected = {name: f"content of {name}".encode() for name in names} | {"link": b"plain"}
    assert expected == place.run(fetch_all)


def test_an_array_gives_every_task_its_own_command(place: Place):
    commands = [["sh", "-c", f'echo "task {n} $1"', "x", f"a '{n}' $x"] for n in range(5)]
    wanted = submission(place.image(), *commands, token=fresh_token(), max_parallel_tasks=2)

    observations = place.play(wanted)

    assert [RunState.COMPLETED] * 5 == [o.state for o in observations]
    logs = [place.log_of(task.run_id).decode() for task in wanted.tasks]
    assert [f"task {n} a '{n}' $x\n" for n in range(5)] == logs


def test_submitting_again_gives_the_same_job(place: Place):
    wanted = submission(place.image(), ["sh", "-c", "echo once"], token=fresh_token())

    async def scenario(cluster: ShellCluster) -> list[str]:
        await cluster.deliver(wanted.image, place.blobs, SilentProgress())
        ids = [await cluster.submit(wanted)]
        ids += await asyncio.gather(*(cluster.submit(wanted) for _ in range(3)))
        found = await cluster.find([wanted.token, "neverseen1"])
        assert found == {wanted.token: ids[0]}
        await place.finish(cluster, {wanted.tasks[0].run_id: ids[0]})
        return [*ids, await cluster.submit(wanted)]

    assert len(set(place.run(scenario))) == 1


def test_an_option_that_cannot_be_is_refused_and_leaves_nothing(place: Place):
    wanted = submission(
        place.image(), ["true"], token=fresh_token(), options=(("partition", "nowhere"),)
    )

    async def scenario(cluster: ShellCluster) -> dict[str, str]:
        await cluster.deliver(wanted.image, place.blobs, SilentProgress())
        with pytest.raises(SubmitRefusedError):
            await cluster.submit(wanted)
        return dict(await cluster.find([wanted.token]))

    assert {} == place.run(scenario)
    assert not (place.seen / "submit" / wanted.token).exists()


def test_a_cancelled_run_says_so(place: Place):
    script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    wanted = submission(place.image(), ["bash", "-c", script], token=fresh_token())

    async def scenario(cluster: ShellCluster) -> RunState:
        runs = await place.launch(cluster, wanted)
        async for chunk in cluster.logs(wanted.tasks[0].run_id, attempt=None, follow=True):
            if b"ready" in chunk:
                break
        await cluster.cancel(list(runs.values()))
        await cluster.cancel(list(runs.values()))
        (observation,) = await place.finish(cluster, runs)
        await cluster.cancel(list(runs.values()))
        return observation.state

    assert place.run(scenario) is RunState.CANCELLED


def test_following_a_log_that_never_stops_growing_shows_all_of_it(place: Place):
    script = "for i in $(seq 300); do seq 2000; sleep 0.005; done"
    wanted = submission(place.image(), ["sh", "-c", script], token=fresh_token())

    async def scenario(cluster: ShellCluster) -> bytes:
        await place.launch(cluster, wanted)
        run_id = wanted.tasks[0].run_id
        return b"".join([c async for c in cluster.logs(run_id, attempt=None, follow=True)])

    once = b"".join(b"%d\n" % n for n in range(1, 2001))
    assert 300 * len(once) == len(place.run(scenario))


def test_following_a_log_shows_all_of_it_and_ends_with_the_run(place: Place):
    script = "for i in 1 2 3; do echo line $i; sleep 0.4; done; seq 100000"
    wanted = submission(place.image(), ["sh", "-c", script], token=fresh_token())

    async def scenario(cluster: ShellCluster) -> bytes:
        await place.launch(cluster, wanted)
        run_id = wanted.tasks[0].run_id
        return b"".join([c async for c in cluster.logs(run_id, attempt=None, follow=True)])

    expected = b"line 1\nline 2\nline 3\n" + b"".join(b"%d\n" % n for n in range(1, 100001))
    assert expected == place.run(scenario)


def test_only_missing_blobs_are_moved(place: Place):
    async def scenario(cluster: ShellCluster) -> list[int]:
        image = place.image()
        await cluster.deliver(image, place.blobs, SilentProgress())
        return [await cluster.deliver(image, place.blobs, SilentProgress())]

    assert [0] == place.run(scenario)
    layout = place.seen / "images" / place.image().manifest.digest.hex
    assert (layout / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    digest = place.image().manifest.digest
    data = (layout / "blobs" / "sha256" / digest.hex).read_bytes()
    assert digest.hex == hashlib.sha256(data).hexdigest()


def test_a_check_names_what_is_there(place: Place):
    facts = place.run(lambda cluster: cluster.check())

    assert [] == [fact for fact in facts if not fact.is_good]
    assert {"state folder", "runtime bubblewrap", "scheduler"} <= {fact.name for fact in facts}


def test_what_a_command_got_and_took_is_recorded(place: Place):
    script = "printf -v x '%20000000s'; sleep 1.2; bash -c 'kill -9 $$'; exit $?"
    env = tuple(sorted([*ENV, ("ODD", "a\nb")]))
    wanted = submission(place.image(), ["bash", "-c", script], token=fresh_token(), env=env)

    outcome = outcome_of(place.play(wanted))

    facts = dict(outcome.facts)
    names = sorted([*(name for name, _ in env), "XMSLURM_ATTEMPT", "XMSLURM_RESTART_COUNT"])
    assert " ".join(names) == facts["environment"]
    assert 19 <= int(facts["memory_peak_mib"]) < 200
    assert facts["exit_signal"] == "9"
    assert "core=0" in facts["limits"]


def test_the_facts_of_the_node_are_recorded(place: Place):
    outcome = outcome_of(place.play(submission(place.image(), ["true"], token=fresh_token())))

    facts = dict(outcome.facts)
    wanted = {"node", "kernel", "os", "glibc", "cpu_model", "cpu_flags_sha256", "cpu_simd"}
    wanted |= {"cpus_allowed", "memory_mib", "limits"}
    assert set() == {name for name in wanted if not facts.get(name)}
    assert facts["runtime_version"].startswith("bubblewrap 0.")
    assert facts["attempt"] == outcome.attempt


def commands_of_many(count: int) -> list[list[str]]:
    script = 'for i in 1 2 3; do echo "$1 says $i"; sleep 0.3; done; printf end >/xm/outputs/o'
    return [["sh", "-c", f"{script}; printf $1 >/xm/outputs/n", "x", str(n)] for n in range(count)]


def test_many_logs_are_followed_side_by_side_to_their_ends(place: Place):
    array = submission(place.image(), *commands_of_many(3), token=fresh_token())
    lone = submission(place.image(), commands_of_many(1)[0], token=fresh_token())
    runs = [task.run_id for task in (*array.tasks, *lone.tasks)]

    async def scenario(cluster: ShellCluster) -> dict[RunId, bytes]:
        await place.launch(cluster, array)
        await place.launch(cluster, lone)
        heard = dict.fromkeys(runs, b"")
        async for run_id, piece in cluster.follow(runs, follow=True):
            heard[run_id] += piece
        return heard

    def says(n: int) -> bytes:
        return b"".join(b"%d says %d\n" % (n, i) for i in (1, 2, 3))

    expected = {run_id: says(run_id.task) for run_id in runs}
    assert expected == place.run(scenario)

    async def ends(cluster: ShellCluster) -> dict[RunId, bytes]:
        return {run_id: piece async for run_id, piece in cluster.follow(runs, last_lines=1)}

    assert {run_id: b"%d says 3\n" % run_id.task for run_id in runs} == place.run(ends)

    async def nothing(cluster: ShellCluster) -> list[bytes]:
        return [piece async for _, piece in cluster.follow(runs, follow=True, last_lines=0)]

    assert [] == place.run(nothing)


def test_a_log_that_is_cut_short_or_replaced_is_followed_from_its_new_beginning(place: Place):
    script = "echo first; while ! [ -e /tmp/go ] && [ $((i=i+1)) -lt 200 ]; do sleep 0.1; done"
    wanted = submission(place.image(), ["bash", "-c", f"{script}; echo last"], token=fresh_token())
    run_id = wanted.tasks[0].run_id

    async def scenario(cluster: ShellCluster) -> list[bytes]:
        runs = await place.launch(cluster, wanted)
        heard = []
        async for _, piece in cluster.follow([run_id], follow=True):
            heard.append(piece)
            (attempt,) = (place.seen / "runs" / run_id.token / "0").glob("*.0")
            if piece == b"first\n":
                (attempt / "log").write_bytes(b"cut\n")
            if piece == b"cut\n":
                (attempt / "new").write_bytes(b"another file\n")
                (attempt / "new").rename(attempt / "log")
            if piece == b"another file\n":
                await cluster.cancel(list(runs.values()))
        return heard

    heard = place.run(scenario)

    assert [b"first\n", b"cut\n", b"another file\n"] == heard[:3]


def test_many_outputs_are_read_over_one_channel_each_from_where_it_shall(place: Place):
    wanted = submission(place.image(), *commands_of_many(3), token=fresh_token())
    outcomes = [observation.outcomes[-1] for observation in place.play(wanted)]
    files = [
        WantedFile(run_id=o.run_id, attempt=o.attempt, path=path, offset=offset)
        for o in outcomes
        for path, offset in (("n", 0), ("o", 0), ("o", 2), ("o", 3))
    ]

    async def scenario(cluster: ShellCluster) -> list[bytes]:
        heard = dict.fromkeys(files, b"")
        async for file, piece in cluster.fetch_many(files):
            heard[file] += piece
        with pytest.raises(NotFoundError, match="left no output nothing"):
            async for _ in cluster.fetch_many([replace(files[0], path="nothing")]):
                pass
        return list(heard.values())

    expected = [part for n in range(3) for part in (b"%d" % n, b"end", b"d", b"")]
    assert expected == place.run(scenario)


def test_a_cluster_may_be_warmed_up_and_used_or_not(place: Place):
    async def used(cluster: ShellCluster) -> int:
        cluster.warm_up()
        cluster.warm_up()
        return await cluster.deliver(place.image(), place.blobs, SilentProgress())

    async def unused(cluster: ShellCluster) -> None:
        cluster.warm_up()
        await asyncio.sleep(0.01)

    place.run(used)
    place.run(unused)


def test_a_cluster_that_cannot_be_warmed_up_says_so_when_it_is_needed(place: Place):
    nowhere = replace(place, state_dir="/proc/nowhere")

    async def scenario(cluster: ShellCluster) -> None:
        cluster.warm_up()
        await asyncio.sleep(0.3)
        with pytest.raises(ClusterError, match="the state folder /proc/nowhere"):
            await cluster.deliver(place.image(), place.blobs, SilentProgress())

    nowhere.run(scenario)
