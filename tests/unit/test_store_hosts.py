"""One store on several hosts whose locks do not reach each other."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xmslurm_repro.store.boots import this_boot
from xmslurm_repro.store.guard import FileGuard

HERE = "00000000-0000-4000-8000-000000000001.here"
THERE = "00000000-0000-4000-8000-000000000002.there"


@pytest.fixture(autouse=True)
def local_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lock is had, as if nobody else were on this host."""
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)


def guard(tmp_path: Path, boot: str) -> FileGuard:
    return FileGuard(tmp_path / "in-use.lock", boot=boot)


def said_in(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "in-use.lock.d").iterdir())


def test_who_clears_up_sees_users_on_other_hosts(tmp_path: Path):
    user, clearer = guard(tmp_path, THERE), guard(tmp_path, HERE)

    with user.using(), clearer.alone() as is_alone:
        assert not is_alone
    user.hold("a")
    user.hold("b")
    user.release("a")
    with clearer.alone() as is_alone:
        assert not is_alone
    user.close()
    with clearer.alone() as is_alone:
        assert is_alone
    assert [] == said_in(tmp_path)


def test_who_comes_while_another_host_clears_up_waits(tmp_path: Path):
    user, clearer = guard(tmp_path, THERE), guard(tmp_path, HERE)
    entered = threading.Event()

    def use() -> None:
        with user.using():
            entered.set()

    with clearer.alone() as is_alone:
        thread = threading.Thread(target=use)
        thread.start()
        assert is_alone
        assert not entered.wait(0.5)
    thread.join(10)

    assert entered.is_set()
    assert [] == said_in(tmp_path)


def test_of_two_hosts_that_clear_up_at_most_one_does(tmp_path: Path):
    with (
        guard(tmp_path, HERE).alone() as one,
        guard(tmp_path, THERE).alone() as other,
    ):
        assert [True, False] == [one, other]


def test_many_hosts_at_once_never_meet_one_that_clears_up(tmp_path: Path):
    users, alone, met = [0], [0], []

    def use(number: int) -> None:
        for _ in range(40):
            with guard(tmp_path, HERE.replace("0001", f"10{number:02}") + str(number)).using():
                users[0] += 1
                met.append(alone[0])
                users[0] -= 1

    def clear(number: int) -> None:
        boot = HERE.replace("0001", f"20{number:02}") + f"clear{number}"
        for _ in range(40):
            with guard(tmp_path, boot).alone() as is_alone:
                if is_alone:
                    alone[0] += 1
                    met.append(users[0])
                    alone[0] -= 1

    threads = [threading.Thread(target=use, args=(n,)) for n in range(3)]
    threads += [threading.Thread(target=clear, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {0} == set(met)
    assert [] == said_in(tmp_path)


def test_what_a_dead_host_said_is_believed_for_a_day(tmp_path: Path):
    guard(tmp_path, THERE).hold("x")
    clearer = guard(tmp_path, HERE)
    [name] = said_in(tmp_path)
    path = tmp_path / "in-use.lock.d" / name
    hour = 3600

    for age_hours, expected in ((23, False), (25, True)):
        stamp = (tmp_path / "in-use.lock").stat().st_mtime - age_hours * hour
        os.utime(path, (stamp, stamp))
        with clearer.alone() as is_alone:
            assert expected == is_alone
    assert [] == said_in(tmp_path)


def test_what_a_killed_process_said_is_not_believed_on_its_host(tmp_path: Path):
    script = """
import os, signal, sys
from pathlib import Path
from xmslurm_repro.store.guard import FileGuard
FileGuard(Path(sys.argv[1])).hold("x")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "in-use.lock"], check=False)
    left = said_in(tmp_path)

    with guard(tmp_path, this_boot() or "").alone() as is_alone:
        assert is_alone
    assert left
    assert [] == said_in(tmp_path)


def test_what_was_said_before_this_host_was_started_anew_is_not_believed(tmp_path: Path):
    guard(tmp_path, HERE).hold("x")

    with guard(tmp_path, HERE.replace("0001", "0009")).alone() as is_alone:
        assert is_alone
    assert [] == said_in(tmp_path)
