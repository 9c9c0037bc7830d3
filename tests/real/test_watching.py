"""Looking at runs from a terminal and from scripts, and at a thousand of them at once."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.cluster_places import fresh_token, ssh_place
from tests.cluster_support import submission
from tests.support.cli import Cli
from tests.support.cutting import line_to
from tests.testbed.bed import Testbed
from tests.testbed.processes import wait_until
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.model.run import RunState
from xmslurm_repro.ports.transport import Completed, Transport
from xmslurm_repro.transport.ssh import SshTransport

SPEAKS = """
import sys, time
for i in range(4):
    print(sys.argv[1:], i, flush=True)
    time.sleep(0.3)
"""
WAITS = "import time\nprint('on', flush=True)\ntime.sleep(60)\n"


def started(cli: Cli, *words: str, **more) -> subprocess.Popen[str]:
    env = {**os.environ, "XMSLURM_REPRO_HOME": str(cli.home), **cli.env, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*cli.program, *words],
        cwd=cli.folder,
        env=env,
        text=True,
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **more,
        },
    )


def state_of(cli: Cli) -> str:
    return cli.json("status", "latest", status=None)[0]["state"]


def test_an_interrupted_wait_says_that_the_run_goes_on_and_how_to_look(make_cli):
    cli = make_cli({"main.py": WAITS})
    process = started(cli, "launch", "--wait", "--", "python", "main.py")
    wait_until(lambda: "1" in cli.run("list").stdout, "the launch", seconds=60)
    wait_until(lambda: state_of(cli) == "running", "the run", seconds=60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)

    assert process.returncode == 130
    assert said.splitlines()[-6:-4] == ["interrupted", "The runs of 1 go on."]
    for command in ("status", "logs", "wait", "cancel"):
        assert re.search(rf"^  xmslurm-repro {command} 1\b", said, re.MULTILINE)

    follower = started(cli, "logs", "1", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == "on\n"
    follower.send_signal(signal.SIGINT)
    assert "The runs of 1 go on." in follower.communicate(timeout=20)[1]

    assert state_of(cli) == "running"
    cli.run("cancel", "1")
    done = cli.run("wait", "1", status=1)
    assert "cancelled" in done.stdout


def test_waiting_in_a_script_prints_a_line_for_each_state(make_cli):
    cli = make_cli({"main.py": SPEAKS})
    cli.run("launch", "--", "python", "main.py")

    done = cli.run("wait")

    assert done.stderr.splitlines()[-1] == "1/1 completed"
    assert done.stdout.splitlines()[1].split()[:2] == ["1/1", "completed"]


def test_a_terminal_shows_runs_live_and_then_as_they_ended(make_cli):
    cli = make_cli({"main.py": SPEAKS})
    cli.run("launch", "--", "python", "main.py")
    near, far = pty.openpty()
    process = started(cli, "wait", stdin=far, stdout=far, stderr=far)
    os.close(far)
    seen = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if near in select.select([near], [], [], 1)[0]:
            with suppress(OSError):
                piece = os.read(near, 4096)
                seen += piece
                if piece:
                    continue
            break
    os.close(near)

    assert process.wait(timeout=10) == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    assert re.search(r"1 (pending|running)", text), text
    assert "1/1" in text.rpartition("unit")[2]
    assert "completed" in text.rpartition("unit")[2]


@dataclass
class Counting:
    """Counts the commands that go through a transport."""

    inner: Transport
    runs: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        return self.inner.description

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        self.runs.append("run")
        return await self.inner.run(argv, stdin=stdin, timeout_seconds=timeout_seconds)

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        self.runs.append("stream")
        return self.inner.stream(argv, stdin=stdin)

    async def close(self) -> None:
        await self.inner.close()


def test_one_connection_and_one_question_serve_a_thousand_runs(testbed: Testbed):
    wait_until(lambda: testbed.count_connections() == 0, "earlier connections to end")
    with ssh_place(testbed) as place:
        transport = Counting(place.make_transport())
        counted = replace(place, make_transport=lambda: transport)
        commands = [["echo", f"task {n}"] for n in range(1000)]
        wanted = submission(place.image(), *commands, token=fresh_token(), options=(("hold", ""),))

        async def scenario(cluster: ShellCluster) -> dict[str, list[str]]:
            runs = await place.launch(cluster, wanted)
            costs = {}
            for name, act in {
                "observe": lambda: cluster.observe(runs),
                "logs": lambda: read_logs(cluster),
                "cancel": lambda: cluster.cancel(list(runs.values())),
                "observe again": lambda: cluster.observe(runs),
            }.items():
                transport.runs.clear()
                answer = await act()
                costs[name] = list(transport.runs)
            states = {observation.state for observation in answer.values()}
            assert states == {RunState.CANCELLED}
            # Two processes serve one connection.
            assert testbed.count_connections() == 2
            return costs

        async def read_logs(cluster: ShellCluster) -> None:
            ids = [task.run_id for task in wanted.tasks]
            assert [] == [piece async for piece in cluster.follow(ids)]

        costs = counted.run(scenario)

    assert costs["observe"] == ["run"]
    assert costs["logs"] == ["stream"]
    assert len(costs["cancel"]) <= 2
    # The second asks the accounting about those that squeue has forgotten.
    assert costs["observe again"] in (["run"], ["run", "run"])


def test_a_log_is_followed_through_a_connection_that_breaks(testbed: Testbed, tmp_path: Path):
    from tests.real.test_cut_lines import through

    with ssh_place(testbed) as place, line_to(testbed.ssh_port) as line:
        cut = replace(place, make_transport=lambda: SshTransport(through(testbed, line, tmp_path)))
        script = "for i in $(seq 30); do echo line $i; sleep 0.1; done"
        wanted = submission(cut.image(), ["bash", "-c", script], token=fresh_token())
        run_id = wanted.tasks[0].run_id

        async def scenario(cluster: ShellCluster) -> bytes:
            await place.launch(cluster, wanted)
            heard, cuts = b"", [b"line 5\n", b"line 15\n"]
            async for _, piece in cluster.follow([run_id], follow=True):
                heard += piece
                if cuts and cuts[0] in heard:
                    cuts.pop(0)
                    line.cut()
            return heard

        heard = cut.run(scenario)

    assert b"".join(b"line %d\n" % n for n in range(1, 31)) == heard
