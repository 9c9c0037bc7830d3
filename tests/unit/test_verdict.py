"""Two outcomes compared."""

from dataclasses import replace

from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Outcome, OutputFile, RunId, RunState
from xmslurm_repro.model.verdict import FileStatus, Level, judge

FACTS = (("cpu_model", "Epyc"), ("kernel", "6.1"), ("node", "n1"))


def digest(character):
    return Digest.sha256(character * 64)


def output(path, character):
    return OutputFile(path=path, sha256=digest(character), size_bytes=1)


def outcome(**changes):
    whole = Outcome(
        run_id=RunId(token="aaaaaaaa", task=0),
        attempt="1.0",
        state=RunState.COMPLETED,
        exit_code=0,
        reason=None,
        started_at=None,
        ended_at=None,
        image=digest("1"),
        facts=FACTS,
        outputs=(output("a", "a"), output("b", "b")),
        log=digest("c"),
    )
    return replace(whole, **changes)


def test_equal_outputs_in_the_same_image_are_r3():
    verdict = judge(outcome(), outcome())

    assert verdict.level is Level.R3
    assert verdict.headline == "R3: 2 of 2 outputs equal, on the same hardware class"


def test_equal_outputs_on_another_cpu_are_r3_and_say_so():
    verdict = judge(outcome(), outcome(facts=(("cpu_model", "Xeon"), ("kernel", "6.1"))))

    assert verdict.headline == "R3: 2 of 2 outputs equal, on other hardware (CPU model)"


def test_the_node_is_no_hardware():
    verdict = judge(outcome(), outcome(facts=(*FACTS[:2], ("node", "n2"))))

    assert verdict.facts == ()


def test_the_node_of_a_replica_is_no_hardware_and_its_processor_is():
    replica = (("replica_1_cpu_model", "Epyc"), ("replica_1_node", "n1"))
    moved = (("replica_1_cpu_model", "Xeon"), ("replica_1_node", "n2"))

    verdict = judge(outcome(facts=(*FACTS, *replica)), outcome(facts=(*FACTS, *moved)))

    assert ["replica_1_cpu_model"] == [fact.name for fact in verdict.facts]


def test_another_card_of_the_same_model_is_the_same_hardware_and_another_model_is_not():
    card = ("gpu_0", "NVIDIA A100-SXM4-40GB, GPU-1, 92.00, 40960 MiB")
    twin = ("gpu_0", "NVIDIA A100-SXM4-40GB, GPU-2, 92.00, 40960 MiB")
    other = ("gpu_0", "NVIDIA H100 80GB HBM3, GPU-3, 96.00, 81559 MiB")
    original = outcome(facts=(*FACTS, card))

    assert judge(original, outcome(facts=(*FACTS, twin))).hardware == ()
    assert judge(original, outcome(facts=(*FACTS, other))).hardware == ("GPU model",)


def test_another_image_is_only_r0_even_when_the_outputs_are_equal():
    assert judge(outcome(), outcome(image=digest("2"))).level is Level.R0
    assert judge(outcome(image=None), outcome(image=None)).level is Level.R0


def test_each_output_that_differs_is_named():
    changed = outcome(outputs=(output("a", "e"), output("c", "c")))
    verdict = judge(outcome(), changed)

    assert verdict.headline == "R2: 3 of 3 outputs differ"
    assert [(file.path, file.status) for file in verdict.files] == [
        ("a", FileStatus.DIFFERS),
        ("b", FileStatus.MISSING),
        ("c", FileStatus.EXTRA),
    ]


def test_differing_outputs_on_other_hardware_are_r1_and_name_the_likeliest_cause_first():
    changed = outcome(
        outputs=(output("a", "e"), output("b", "b")),
        facts=(("cpu_model", "Xeon"), ("gpu_driver", "550"), ("kernel", "6.2"), ("memory", "1")),
    )
    verdict = judge(outcome(), changed)

    assert verdict.headline == "R1: 1 of 2 outputs differ"
    assert [fact.name for fact in verdict.facts] == ["gpu_driver", "cpu_model", "kernel", "memory"]


def test_runs_without_outputs_are_compared_by_their_logs():
    silent = outcome(outputs=())

    assert judge(silent, silent).level is Level.R3
    assert judge(silent, replace(silent, log=digest("d"))).level is Level.R2
    assert judge(silent, replace(silent, log=None)).level is Level.R2


def test_a_replay_that_fails_is_not_equal_whatever_it_wrote():
    failed = outcome(state=RunState.FAILED, exit_code=1)

    assert not judge(outcome(), failed).is_equal
    assert judge(failed, failed).is_equal
