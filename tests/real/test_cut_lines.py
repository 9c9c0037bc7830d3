"""A connection that breaks at every step: while logging in, sending, running and answering."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_places import fresh_token, outcome_of, ssh_place
from tests.cluster_support import submission
from tests.support.cutting import Line, line_to
from tests.testbed.bed import Testbed
from tests.testbed.processes import wait_until
from xmslurm_repro.cluster.shell import ShellCluster
from xmslurm_repro.errors import ConnectionLostError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.ports.transport import Transport
from xmslurm_repro.transport.openssh import OpenSshTransport
from xmslurm_repro.transport.ssh import SshEndpoint, SshTransport

STEPS = 14
"""Into how many parts a conversation is cut."""

Make = Callable[[SshEndpoint], Transport]


def through(bed: Testbed, line: Line, tmp_path: Path) -> SshEndpoint:
    known = tmp_path / "known_hosts"
    key = bed.ssh_known_hosts.read_text().split(" ", 1)[1]
    known.write_text(f"[127.0.0.1]:{line.port} {key}")
    return SshEndpoint(
        host="127.0.0.1",
        port=line.port,
        user=bed.ssh_user,
        config_files=("/dev/null",),
        known_hosts=str(known),
        identity_files=(str(bed.ssh_key),),
    )


@pytest.mark.parametrize("make", [SshTransport, OpenSshTransport], ids=["ssh", "openssh"])
def test_a_line_that_breaks_anywhere_never_lies_about_what_was_run(
    testbed: Testbed, tmp_path: Path, make: Make
):
    home = testbed.homes[testbed.ssh_user]
    script = 'cat >>"$1"; echo said'

    async def once(endpoint: SshEndpoint, name: str) -> bool | None:
        """Whether it ran, as far as the transport says; ``None`` for "perhaps"."""
        transport = make(endpoint)
        try:
            done = await transport.run(
                ["sh", "-c", script, "sh", name], stdin=b"x\n" * 5000, timeout_seconds=20
            )
        except ConnectionLostError as error:
            return None if error.may_have_run else False
        finally:
            await transport.close()
        assert done.exit_status == 0
        assert done.stdout == b"said\n"
        return True

    with line_to(testbed.ssh_port) as line:
        endpoint = through(testbed, line, tmp_path)
        whole = fresh_token()
        assert asyncio.run(once(endpoint, whole))
        total, seen = line.carried, set()
        for step in range(STEPS):
            name = fresh_token()
            line.carried, line.cut_after = 0, total * step // STEPS
            told = asyncio.run(once(endpoint, name))
            seen.add(told)
            if told is False:
                assert not (home / name).exists(), f"cut at {step}/{STEPS}"
            if told is True:
                assert (home / name).read_bytes() == b"x\n" * 5000
    assert {False, None} <= seen


def test_a_job_is_submitted_once_wherever_the_line_breaks(testbed: Testbed, tmp_path: Path):
    with ssh_place(testbed) as place, line_to(testbed.ssh_port) as line:
        endpoint = through(testbed, line, tmp_path)
        cut = replace(place, make_transport=lambda: SshTransport(endpoint))
        jobs: dict[str, str] = {}
        # Image and folders are there, so that a step is a step of submitting.
        whole = submission(cut.image(), ["true"], token=fresh_token())
        assert outcome_of(cut.play(whole)).state is RunState.COMPLETED
        line.carried = 0
        again = submission(cut.image(), ["true"], token=fresh_token(), options=(("hold", ""),))
        jobs[again.token] = cut.run(lambda cluster: cluster.submit(again))
        total = line.carried
        for step in range(0, STEPS, 2):
            wanted = replace(again, token=fresh_token())
            tasks = submission(cut.image(), ["true"], token=wanted.token).tasks
            wanted = replace(wanted, tasks=tasks)

            async def submit(cluster: ShellCluster, wanted=wanted) -> str:
                # What nobody ran may be sent again; what may have run, the cluster looks up.
                for _ in range(3):
                    with suppress(ConnectionLostError):
                        return await cluster.submit(wanted)
                raise AssertionError("the line broke more than once")

            line.carried, line.cut_after = 0, total * step // STEPS
            jobs[wanted.token] = cut.run(submit)

    for token, job_id in jobs.items():
        assert testbed.jobs_named(f"xmslurm-{token}") == 1
        assert testbed.run(["squeue", "-h", "-j", job_id, "-o", "%j"]).strip().endswith(token)
    testbed.run(["scancel", *jobs.values()])
    wait_until(lambda: not testbed.run(["squeue", "-h", "-o", "%i"]).strip(), "no jobs")


def test_outputs_come_whole_or_not_at_all_over_a_line_that_breaks(testbed: Testbed, tmp_path: Path):
    with ssh_place(testbed) as place, line_to(testbed.ssh_port) as line:
        cut = replace(place, make_transport=lambda: SshTransport(through(testbed, line, tmp_path)))
        wanted = submission(
            cut.image(),
            ["bash", "-c", "seq 200000 >/xm/outputs/numbers"],
            token=fresh_token(),
        )
        outcome = outcome_of(cut.play(wanted))
        target = tmp_path / "numbers"

        async def fetch(cluster: ShellCluster) -> None:
            line.carried, line.cut_after = 0, 300_000
            with target.open("wb") as file, pytest.raises(ConnectionLostError):
                await cluster.fetch(outcome.run_id, outcome.attempt, "numbers", file)
            with target.open("wb") as file:
                await cluster.fetch(outcome.run_id, outcome.attempt, "numbers", file)

        cut.run(fetch)

    assert target.read_bytes() == b"".join(b"%d\n" % n for n in range(1, 200_001))


def test_an_image_that_half_arrived_is_completed(testbed: Testbed, tmp_path: Path):
    with ssh_place(testbed) as place, line_to(testbed.ssh_port) as line:
        cut = replace(place, make_transport=lambda: SshTransport(through(testbed, line, tmp_path)))
        image = cut.image()
        total = sum(blob.size_bytes for blob in image.blobs)

        async def deliver(cluster: ShellCluster) -> list[int]:
            await cluster._known()
            line.carried, line.cut_after = 0, total * 3 // 4
            with pytest.raises(ConnectionLostError):
                await cluster.deliver(image, cut.blobs, SilentProgress())
            return [await cluster.deliver(image, cut.blobs, SilentProgress()) for _ in range(2)]

        first, second = cut.run(deliver)

    assert 0 < first <= total
    assert second == 0
