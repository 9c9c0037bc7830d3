from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile

import pytest

from xmslurm_repro.errors import IntegrityError
from xmslurm_repro.store.tar import END, FIFO, HARD_LINK, TarWriter, member_header

LONG = b"a/" * 60 + b"long"
UMLAUT = "ä/größe".encode()
RAW = b"caf\xe9"
RAW_LONG = b"long\xe9/" + b"x" * 120


def archive(fill) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    fill(writer)
    writer.finish()
    return out.getvalue()


def sample(writer: TarWriter) -> None:
    writer.directory(b"a")
    writer.file(b"a/b", 5, False, io.BytesIO(b"hello"))
    writer.file(b"a/run", 512, True, io.BytesIO(b"x" * 512))
    writer.symlink(b"a/link", b"../" + b"t" * 150)
    writer.file(LONG, 1, False, io.BytesIO(b"1"))
    writer.file(UMLAUT, 0, False, io.BytesIO(b""))
    writer.file(RAW, 1, False, io.BytesIO(b"r"))
    writer.file(RAW_LONG, 1, False, io.BytesIO(b"s"))


def test_the_bytes_of_an_archive_are_fixed_for_ever():
    digest = hashlib.sha256(archive(sample)).hexdigest()

    assert "4009f05dc22d8e188ca78ebe7fc9b0bcff130a4ccfb2f734250ad80c1086f85c" == digest


def test_pythons_tarfile_reads_back_what_was_written():
    with tarfile.open(fileobj=io.BytesIO(archive(sample))) as read:
        members = {m.name.encode("utf-8", "surrogateescape"): m for m in read.getmembers()}

        assert {b"a", b"a/b", b"a/run", b"a/link", LONG, UMLAUT, RAW, RAW_LONG} == set(members)
        assert b"hello" == read.extractfile(members[b"a/b"]).read()
    assert [0o755, 0o644, 0o755, 0o777] == [
        members[n].mode for n in (b"a", b"a/b", b"a/run", b"a/link")
    ]
    assert "../" + "t" * 150 == members[b"a/link"].linkname
    assert {(1, 0, 0, "", "")} == {
        (m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()
    }


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_gnu_tar_unpacks_every_name_to_the_byte_in_any_locale(tmp_path, locale):
    done = subprocess.run(
        ["tar", "-xf", "-", "-C", str(tmp_path)],
        input=archive(sample),
        env={"PATH": "/usr/bin:/bin", "LC_ALL": locale},
        capture_output=True,
        check=True,
    )

    assert b"" == done.stderr
    for name in (LONG, UMLAUT, RAW, RAW_LONG):
        assert (tmp_path / name.decode("utf-8", "surrogateescape")).is_file()


def test_a_short_ascii_name_costs_one_header_block():
    assert 512 == len(member_header(b"x" * 100))
    assert 512 + 512 + 512 == len(member_header(b"x" * 101))


def test_a_size_beyond_eight_gibibytes_goes_into_an_extended_header():
    header = member_header(b"big", size_bytes=1 << 34)

    read = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict")
    assert b"20 size=17179869184\n" == header[512:532]
    assert 0 == read.size


def test_owners_and_attributes_of_a_base_image_survive():
    header = member_header(
        b"ping", mode=0o4755, owner=(5_000_000, 7), xattrs=((b"security.capability", b"\1\0\n"),)
    )

    with tarfile.open(fileobj=io.BytesIO(header + END)) as read:
        (member,) = read.getmembers()
    assert (0o4755, 5_000_000, 7) == (member.mode, member.uid, member.gid)
    assert "\1\0\n" == member.pax_headers["SCHILY.xattr.security.capability"]


def test_hard_links_and_fifos_can_be_written():
    data = member_header(b"a", size_bytes=0) + member_header(b"b", kind=HARD_LINK, target=b"a")

    with tarfile.open(fileobj=io.BytesIO(data + member_header(b"f", kind=FIFO) + END)) as read:
        assert ["0", "1", "6"] == [m.type.decode() for m in read.getmembers()]


@pytest.mark.parametrize("path", [b"", b"/a", b"a//b", b"./a", b"a/..", b"a/", b"a\0b"])
def test_a_path_that_is_not_in_normal_form_is_refused(path):
    with pytest.raises(ValueError, match="normal form|NUL"):
        member_header(path)


@pytest.mark.parametrize("content", [b"abc", b"abcde"])
def test_a_file_of_another_size_than_promised_is_refused(content):
    with pytest.raises(IntegrityError, match="a/b should have 4 bytes"):
        TarWriter(lambda data: None).file(b"a/b", 4, False, io.BytesIO(content))
