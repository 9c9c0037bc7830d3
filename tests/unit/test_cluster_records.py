"""What jobs leave, as files."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from xmslurm_repro.cluster.records import read_attempts, read_outcome, read_outputs
from xmslurm_repro.errors import FormatError, IntegrityError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import RunId, RunState

RUN = RunId(token="abcdefgh", task=2)
A, B = "a" * 64, "b" * 64


def files(outputs: bytes = b"", **changes: str) -> dict[str, bytes]:
    values = {
        "format": "1",
        "state": "completed",
        "exit_code": "0",
        "started_at": "2026-01-02T03:04:05Z",
        "ended_at": "2026-01-02T03:04:06Z",
        "image": f"sha256:{A}",
        "log_sha256": B,
        "outputs_sha256": hashlib.sha256(outputs).hexdigest(),
        "reason": "",
        **changes,
    }
    return {
        "end": "".join(f"{name}={value}\n" for name, value in values.items()).encode(),
        "facts": b"node=n1\ncpu_model=Xeon = 5\n",
        "outputs.sha256": outputs,
    }


def tar_of(contents: dict[str, bytes | None]) -> bytes:
    target = io.BytesIO()
    with tarfile.TarFile(fileobj=target, mode="w") as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            if data is None:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


def test_an_outcome_is_read_from_three_files():
    listed = b"%s 3 f b\0%s 1 f a/x\0" % (A.encode(), B.encode())

    outcome = read_outcome(RUN, "7_2.0", files(listed))

    assert outcome is not None
    assert outcome.state is RunState.COMPLETED
    assert outcome.exit_code == 0
    assert outcome.reason is None
    assert outcome.image == Digest.sha256(A)
    assert outcome.log == Digest.sha256(B)
    assert outcome.facts == (("cpu_model", "Xeon = 5"), ("node", "n1"))
    assert [(o.path, o.size_bytes) for o in outcome.outputs] == [("a/x", 1), ("b", 3)]


def test_names_of_outputs_are_exact_whatever_stands_in_them():
    names = [b" a b ", b"new\nline", "größe".encode(), b"\xff", b"f f f"]
    listed = b"".join(b"%s 1 f %s\0" % (A.encode(), name) for name in names)

    records = read_outputs(listed, "here")

    assert names == [record.raw_path for record in records]
    assert records[3].path == "\\xff"


@pytest.mark.parametrize(
    "listed", [b"x", b"x\0", A.encode() + b" 1 f \0", A.encode() + b" 1 d a\0"]
)
def test_a_list_of_outputs_in_another_form_is_refused(listed: bytes):
    with pytest.raises(FormatError):
        read_outputs(listed, "here")


def test_a_list_of_outputs_that_was_changed_later_is_found_out():
    changed = files(b"") | {"outputs.sha256": A.encode() + b" 1 f a\0"}

    with pytest.raises(
        IntegrityError, match=r"abcdefgh\.2/7_2\.0: the list of outputs was changed"
    ):
        read_outcome(RUN, "7_2.0", changed)


def test_a_list_that_a_shared_disk_does_not_show_yet_is_waited_for():
    early = files()
    del early["outputs.sha256"]

    assert read_outcome(RUN, "7_2.0", early) is None


@pytest.mark.parametrize("changes", [{"state": "fine"}, {"exit_code": "x"}, {"log_sha256": "y"}])
def test_an_end_record_in_another_form_is_refused(changes: dict[str, str]):
    with pytest.raises(FormatError, match="end record"):
        read_outcome(RUN, "7_2.0", files(**changes))


def test_attempts_come_in_the_order_of_their_restarts():
    folder = "abcdefgh/2"
    contents: dict[str, bytes | None] = {
        "abcdefgh/other": b"",
        "abcdefgh/claim": b"7\n",
        f"{folder}/7_2.10": None,
        f"{folder}/7_2.9": None,
        f"{folder}/7_2.9/facts": b"node=n1\n",
    }
    contents |= {f"{folder}/7_2.9/{name}": data for name, data in files().items()}

    attempts = read_attempts(tar_of(contents))[RUN]

    assert [(a.name, a.outcome is not None) for a in attempts] == [
        ("7_2.9", True),
        ("7_2.10", False),
    ]
