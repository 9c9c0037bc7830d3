"""The bench measures what it says: interleaved, set up outside the timing, compared in pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.disk import bytes_below, link_copy
from tests.bench.harness import BenchError, Command, Contender, Timing, measure, run_once
from tests.bench.image import Push, only_the_edit
from tests.bench.report import Fact, Table, document, render
from tests.bench.trees import WorkTree


class Clock:
    """Stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def python(program: str, tmp_path: Path, *, has_parts: bool = False) -> Command:
    return Command(
        argv=(sys.executable, "-I", "-c", program),
        cwd=tmp_path,
        env={"LC_ALL": "C.UTF-8"},
        has_parts=has_parts,
    )


def told(seconds: Iterator[float]) -> Contender:
    return Contender(name="told", run=lambda: Timing(seconds=next(seconds)))


def test_contenders_are_interleaved_and_each_is_first_in_its_turn():
    order: list[str] = []
    contenders = [Contender(name=name, run=lambda name=name: order.append(name)) for name in "abc"]

    measure(contenders, repetitions=3, warm_ups=0)

    assert ["abc", "bca", "cab"] == ["".join(order[i : i + 3]) for i in (0, 3, 6)]


def test_warm_ups_are_run_and_not_counted():
    seconds = iter([100.0, 1.0, 2.0, 3.0])

    [row] = measure([told(seconds)], repetitions=3, warm_ups=1)

    assert (1.0, 2.0, 3.0) == row.samples


def test_the_median_and_the_minimum_are_of_all_repetitions():
    [row] = measure([told(iter([4.0, 1.0, 9.0]))], repetitions=3, warm_ups=0)

    assert (4.0, 1.0) == (row.median_seconds, row.minimum_seconds)


def test_what_is_set_up_and_looked_after_takes_no_time():
    clock = Clock()

    def wait(seconds: float) -> None:
        clock.seconds += seconds

    contender = Contender(
        name="a", run=lambda: wait(2), setup=lambda: wait(100), after=lambda: wait(100)
    )
    [row] = measure([contender], repetitions=2, warm_ups=0, clock=clock)

    assert (2.0, 2.0) == row.samples


def test_each_repetition_is_set_up_anew():
    done: list[str] = []
    contender = Contender(
        name="a",
        run=lambda: done.append("run"),
        setup=lambda: done.append("setup"),
        after=lambda: done.append("after"),
    )

    measure([contender], repetitions=2, warm_ups=0)

    assert ["setup", "run", "after"] * 2 == done


def test_ratios_are_taken_within_a_repetition_so_that_a_slow_minute_does_not_show():
    ours, theirs = iter([2.0, 20.0, 2.0]), iter([1.0, 10.0, 1.0])
    contenders = [
        Contender(name="ours", run=lambda: Timing(seconds=next(ours))),
        Contender(name="theirs", run=lambda: Timing(seconds=next(theirs))),
    ]

    rows = measure(contenders, repetitions=3, warm_ups=0, reference="theirs")

    assert [2.0, 1.0] == [row.ratio for row in rows]


def test_two_contenders_of_one_name_are_refused():
    twice = [told(iter([1.0])), told(iter([1.0]))]

    with pytest.raises(ValueError, match="names of their own"):
        measure(twice, repetitions=1)


def test_a_reference_that_does_not_run_is_refused():
    with pytest.raises(ValueError, match="no contender is called 'nobody'"):
        measure([told(iter([1.0]))], repetitions=1, reference="nobody")


def test_a_process_is_timed_to_its_end(tmp_path: Path):
    timing = run_once(Contender(name="a", run=python("import time; time.sleep(0.2)", tmp_path)))

    assert 0.2 <= timing.seconds < 10


def test_a_process_that_fails_has_no_time_but_an_error_with_what_it_said(tmp_path: Path):
    failing = Contender(name="a", run=python("import sys; sys.exit('no such thing')", tmp_path))

    with pytest.raises(BenchError, match="ended with 1:\nno such thing"):
        run_once(failing)


def test_a_program_that_is_not_there_has_no_time_but_an_error(tmp_path: Path):
    command = Command(argv=("/no/such/program",), cwd=tmp_path, env={})

    with pytest.raises(BenchError, match="cannot run /no/such/program"):
        run_once(Contender(name="a", run=command))


def test_the_memory_that_a_process_held_at_its_peak_is_told(tmp_path: Path):
    program = "held = bytearray(b'x') * (100 << 20); del held"

    timing = run_once(Contender(name="a", run=python(program, tmp_path)))

    assert timing.peak_rss_kib is not None
    assert 100 << 10 < timing.peak_rss_kib < 200 << 10


def test_the_memory_that_we_hold_ourselves_is_not_told(tmp_path: Path):
    held = bytearray(b"x") * (100 << 20)

    timing = run_once(Contender(name="a", run=python("pass", tmp_path)))

    assert len(held) == 100 << 20
    assert timing.peak_rss_kib is not None
    assert timing.peak_rss_kib < 50 << 10


def test_the_steps_of_a_process_are_the_last_line_that_it_prints(tmp_path: Path):
    program = 'print("hello"); print(\'{"read": 0.5, "write": 0.25}\')'
    contender = Contender(name="a", run=python(program, tmp_path, has_parts=True))

    [row] = measure([contender], repetitions=1, warm_ups=0)

    assert [("read", 0.5), ("write", 0.25)] == list(row.parts.items())


def test_a_step_that_was_not_taken_took_no_time():
    parts = iter([{"read": 1.0}, {"read": 1.0, "write": 0.5}, {"read": 1.0, "write": 0.5}])
    contender = Contender(name="a", run=lambda: Timing(seconds=2, parts=next(parts)))

    [row] = measure([contender], repetitions=3, warm_ups=0)

    assert {"read": 1.0, "write": 0.5} == row.parts


def test_a_table_is_plain_text_in_columns():
    ours, theirs = iter([0.5]), iter([0.25])
    contenders = [
        Contender(
            name="ours",
            run=lambda: Timing(
                seconds=next(ours), peak_rss_kib=2048, cpu_seconds=0.4, parts={"a": 0.1}
            ),
        ),
        Contender(name="theirs", run=lambda: Timing(seconds=next(theirs), cpu_seconds=0.1)),
    ]
    rows = measure(contenders, repetitions=1, warm_ups=0, reference="theirs")
    facts = (
        Fact(name="bytes", value="3 bytes"),
        Fact(name="blobs", value="3", is_promise=True),
        Fact(name="layers", value="2", is_promise=True, holds=False),
    )

    assert """\
Both
One of two.
           median  minimum  ratio      CPU  ratio  peak RSS
  ours    0.500 s  0.500 s   2.00  0.400 s   4.00     2 MiB
      0.100 s  a
  theirs  0.250 s  0.250 s   1.00  0.100 s   1.00
  bytes   3 bytes
  blobs   3  (as promised)
  layers  2  (BROKEN)
""" == render(Table(title="Both", rows=rows, facts=facts, note="One of two."))


def test_a_table_with_a_broken_promise_does_not_hold():
    broken = Fact(name="blobs", value="4", is_promise=True, holds=False)

    assert not Table(title="a", facts=(broken,)).holds
    assert Table(title="a", facts=(Fact(name="blobs", value="3", is_promise=True),)).holds


def test_the_json_file_holds_every_sample(tmp_path: Path):
    rows = measure([told(iter([1.0, 2.0]))], repetitions=2, warm_ups=0)
    began_at = datetime(2000, 1, 2, tzinfo=UTC)
    report.write(
        tmp_path / "a.json",
        document([Table(title="a", rows=rows)], repetitions=2, began_at=began_at),
    )

    read = json.loads((tmp_path / "a.json").read_text())
    assert read["began_at"] == "2000-01-02T00:00:00Z"
    assert read["tables"][0]["rows"][0]["samples"] == [1.0, 2.0]
    assert set(read["machine"]) == {"cpu", "cpus", "kernel", "python", "load_average"}


def test_an_edit_changes_the_bytes_of_one_file_and_not_its_size(tmp_path: Path):
    tree = WorkTree(path=tmp_path, file_count=1, size_bytes=14)
    file = tmp_path / "edited" / "train.py"
    file.parent.mkdir()
    file.write_text("SEED = 100000\n")
    seen = set()
    for _ in range(3):
        tree.edit()
        seen.add(file.read_text())

    assert {"SEED = 100001\n", "SEED = 100002\n", "SEED = 100003\n"} == seen


def test_a_linked_copy_shares_what_never_changes_and_not_the_database(tmp_path: Path):
    (tmp_path / "a" / "blobs").mkdir(parents=True)
    (tmp_path / "a" / "blobs" / "b").write_bytes(b"blob")
    (tmp_path / "a" / "record.db").write_bytes(b"database")

    link_copy(tmp_path / "a", tmp_path / "c")

    assert (tmp_path / "c" / "blobs" / "b").samefile(tmp_path / "a" / "blobs" / "b")
    assert not (tmp_path / "c" / "record.db").samefile(tmp_path / "a" / "record.db")
    assert bytes_below(tmp_path / "c") == 12


def pushed(layers: dict[str, str], stored: str, *, uploads: int = 2) -> Push:
    """A push of layers (digest to kind), after which the registry has the blobs in *stored*."""
    image = {
        "layers": [{"kind": kind, "blob": {"digest": f"sha256:{d}"}} for d, kind in layers.items()],
        "config": {"digest": "sha256:c"},
        "manifest": {"digest": "sha256:m"},
    }
    return Push(image=image, uploads=uploads, stored=dict.fromkeys(stored, 1))


@pytest.mark.parametrize(
    ("edited", "holds"),
    [
        (pushed({"b": "base", "2": "code"}, "2cm"), True),
        (pushed({"b": "base", "2": "code"}, "2cm", uploads=3), False),
        (pushed({"b": "base", "2": "code"}, "2cmb"), False),
        (pushed({"b": "base", "2": "code", "3": "code"}, "23cm", uploads=3), False),
        (pushed({"2": "base", "1": "code"}, "2cm"), False),
    ],
    ids=["one layer", "one upload too many", "the base again", "two layers", "another base"],
)
def test_an_edit_that_moves_more_than_a_layer_and_two_documents_breaks_the_promise(
    edited: Push, *, holds: bool
):
    first = pushed({"b": "base", "1": "code"}, "b1cm")

    assert holds == all(fact.holds for fact in only_the_edit(edited, first))


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *words],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_prints_what_it_measured_and_writes_it(tmp_path: Path):
    done = bench("startup", "--repetitions", "1", "--json", str(tmp_path / "a.json"))

    assert (0, "") == (done.returncode, done.stderr)
    assert "xmslurm-repro --help" in done.stdout
    [table] = json.loads((tmp_path / "a.json").read_text())["tables"]
    assert all(len(row["samples"]) == 1 for row in table["rows"])


def test_a_part_that_does_not_exist_is_an_error_of_usage():
    done = bench("nothing")

    assert done.returncode == 2
    assert "no such part: nothing" in done.stderr
