"""Laying out wheels, checked against the library `installer` and against crooked wheels."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib

import pytest

from tests.unit.image_parts import SITE, base, content, members, oracle, put_wheel, recipe, wheel
from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.build import Builder
from xmslurm_repro.image.record import parse_record
from xmslurm_repro.image.scripts import console_scripts
from xmslurm_repro.image.wheel import WheelError, plan_wheel
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

BIG = b"".join(b"%d\n" % number for number in range(20_000))
FILES = {
    "demo/__init__.py": b"",
    "demo/data.bin": BIG,
    "demo/tool": b"#!/bin/sh\n",
    "demo/with,comma.py": b"x",
    "demo-1.0.data/scripts/tool.sh": b"#!/bin/sh\necho\n",
    "demo-1.0.data/scripts/tool.py": b"#!python\nprint()\n",
    "demo-1.0.data/purelib/pure.py": b"pure = 1\n",
    "demo-1.0.data/platlib/plat.py": b"plat = 1\n",
    "demo-1.0.data/headers/demo.h": b"#define X\n",
    "demo-1.0.data/data/share/man/demo.1": b".TH\n",
    "demo-1.0.dist-info/entry_points.txt": (
        b"[console_scripts]\ndemo = demo.cli:main\ndemo-sub = demo:Class.method [extra]\n"
        b"[gui_scripts]\ndemo-gui = demo:gui\n[other]\nx = y\n"
    ),
    "demo-1.0.dist-info/licenses/LICENSE": b"free\n",
}


def laid_out(*wheels: tuple[str, bytes]):
    blobs = MemoryBlobStore()
    image_base = base(blobs)
    artifacts = [put_wheel(blobs, data, name) for name, data in wheels]
    image = Builder(blobs, None).build(
        recipe(image_base, artifacts), image_base, None, SilentProgress()
    )
    return blobs, image


def problems(*wheels: tuple[str, bytes]) -> tuple[str, ...]:
    with pytest.raises(ImageError) as caught:
        laid_out(*wheels)
    return caught.value.details


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2])
def test_a_wheel_is_laid_out_as_the_installer_library_does(method):
    data = wheel(files=FILES, modes={"demo/tool": 0o755}, method=method)
    blobs, image = laid_out(("demo", data))
    found = members(blobs, image.layers[0])
    want = oracle(data)

    ours = {name for name, member in found.items() if member.isfile()} - {
        "xm/venv/pyvenv.cfg",
        f"{SITE}/__xmslurm_code__.pth",
    }
    assert set(want) == ours
    for path, (expected, executable) in want.items():
        assert (0o755 if executable else 0o644) == found[path].mode, path
        if expected is not None:
            assert expected == content(blobs, image.layers[0], path), path


def test_record_lists_every_file_sorted_with_its_hash():
    blobs, image = laid_out(("demo", wheel(files=FILES)))
    record = content(blobs, image.layers[0], f"{SITE}/demo-1.0.dist-info/RECORD").decode()
    lines = record.splitlines()

    assert lines == sorted(
        lines, key=lambda line: line.partition(",sha256")[0].strip('"').partition(",,")[0]
    )
    assert "../../../bin/demo" in record
    assert "demo-1.0.dist-info/RECORD,," in lines
    assert '"demo/with,comma.py",sha256=' in record
    assert "demo/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0" in lines
    assert "\r" not in record


def test_a_command_calls_its_function_under_our_interpreter():
    assert {
        "demo": (
            b"#!/xm/venv/bin/python\nimport sys\n\nfrom demo.cli import main\n\n"
            b'if __name__ == "__main__":\n    sys.exit(main())\n'
        ),
        "Sub": (
            b"#!/xm/venv/bin/python\nimport sys\n\nfrom demo import Class\n\n"
            b'if __name__ == "__main__":\n    sys.exit(Class.method())\n'
        ),
    } == console_scripts(
        "[console_scripts]\ndemo = demo.cli:main\n[gui_scripts]\nSub=demo : Class.method [x]\n"
    )


@pytest.mark.parametrize(
    "line", ["a = module", "a/b = m:f", ".. = m:f", "a = m:f()", "a = m:f; import os", "a = 1m:f"]
)
def test_a_command_that_names_no_function_is_refused(line):
    with pytest.raises(ValueError, match="names no function"):
        console_scripts(f"[console_scripts]\n{line}\n")


def test_what_the_build_tool_wrote_for_a_command_gives_way_to_ours():
    files = {
        "demo-1.0.data/scripts/demo": b"#!python\nold\n",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n",
    }
    blobs, image = laid_out(("demo", wheel(files=files)))

    assert b"from demo import main" in content(blobs, image.layers[0], "xm/venv/bin/demo")


def test_bytecode_and_traces_of_another_installation_are_left_out():
    files = {
        "demo/__init__.py": b"",
        "demo/__pycache__/__init__.cpython-311.pyc": b"pyc",
        "demo/sourceless.pyc": b"pyc",
        "demo-1.0.dist-info/direct_url.json": b"{}",
        "demo-1.0.dist-info/REQUESTED": b"",
        "demo-1.0.dist-info/INSTALLER": b"pip\n",
    }
    blobs, image = laid_out(("demo", wheel(files=files)))
    found = members(blobs, image.layers[0])

    left = {name.rpartition("/")[2] for name in found}
    assert not left & {"direct_url.json", "REQUESTED", "__init__.cpython-311.pyc", "__pycache__"}
    assert f"{SITE}/demo/sourceless.pyc" in found
    assert b"xmslurm-repro\n" == content(
        blobs, image.layers[0], f"{SITE}/demo-1.0.dist-info/INSTALLER"
    )


def test_the_same_file_in_two_wheels_is_there_once():
    shared = {"tests/__init__.py": b""}
    blobs, image = laid_out(
        ("one", wheel("one", files=shared)), ("two", wheel("two", files=shared))
    )

    assert f"{SITE}/tests/__init__.py" in members(blobs, image.layers[0])


def test_wheels_that_contradict_each_other_are_named_with_every_path():
    found = problems(
        ("one", wheel("one", files={"a.py": b"1", "b.py": b"1", "c": b"file"})),
        ("two", wheel("two", files={"a.py": b"2", "b.py": b"2", "c/d.py": b"folder"})),
    )

    names = "one-1.0-py3-none-any.whl and two-1.0-py3-none-any.whl"
    assert f"/{SITE}/a.py differs between {names}" in found
    assert f"/{SITE}/b.py differs between {names}" in found
    assert (
        f"/{SITE}/c is a file to one-1.0-py3-none-any.whl and a folder to two-1.0-py3-none-any.whl"
        in found
    )


@pytest.mark.parametrize("name", ["bin/python", "pyvenv.cfg", "bin/python3.11"])
def test_a_wheel_cannot_overwrite_the_virtual_environment(name):
    (found,) = problems(("demo", wheel(files={f"demo-1.0.data/data/{name}": b"mine"})))

    assert "differs between the virtual environment itself and demo" in found


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ([(link("demo/link"), b"/etc/passwd")], "'demo/link' is a symbolic link"),
        ([(zipfile.ZipInfo("/etc/passwd"), b"")], "'/etc/passwd' leads out of the wheel"),
        ([(zipfile.ZipInfo("demo/../../x"), b"")], "'demo/../../x' leads out of the wheel"),
        ([(zipfile.ZipInfo("demo//x"), b"")], "'demo//x' leads out of the wheel"),
        ([(zipfile.ZipInfo("demo/.wh.x"), b"")], "'demo/.wh.x' would be a deletion in an image"),
        ([(zipfile.ZipInfo("demo/stray.py"), b"")], "'demo/stray.py' is not in its RECORD"),
        (
            [(zipfile.ZipInfo("demo-1.0.data/odd/x"), b"")],
            "'demo-1.0.data/odd/x' is of no scheme that we know",
        ),
    ],
)
def test_a_member_that_cannot_be_in_an_image_is_named(extra, said):
    assert any(said in line for line in problems(("demo", wheel(extra=extra))))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_is_named():
    found = problems(("demo", wheel(extra=[(zipfile.ZipInfo("demo/__init__.py"), b"other")])))

    assert any("'demo/__init__.py' is in it twice" in line for line in found)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"demo/__init__.py": None}, "'demo/__init__.py' is not in its RECORD"),
        (
            {"demo/__init__.py": "demo/__init__.py,,"},
            "'demo/__init__.py' has no hash in its RECORD",
        ),
        (
            {"demo/gone.py": "demo/gone.py,sha256=" + "A" * 43 + ",1"},
            "'demo/gone.py' is in its RECORD and not",
        ),
        (
            {"demo/__init__.py": "demo/__init__.py,sha256=" + "A" * 43 + ",6"},
            "'demo/__init__.py' is sha256=",
        ),
        (
            {"demo/__init__.py": "demo/__init__.py,md5=" + "A" * 22 + ",6"},
            "its RECORD cannot be read",
        ),
        (
            {"demo/__init__.py": "demo/__init__.py,sha256=" + "A" * 43 + ",7"},
            "has 6 bytes, its RECORD says 7",
        ),
    ],
)
def test_a_file_that_is_not_what_its_record_says_is_named(record, said):
    found = problems(("demo", wheel(record=record)))

    assert any(said in line and line.startswith("demo-1.0") for line in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,sha256=,1,x\n", "line 1 has 4 columns"),
        ("a,,\na,,\n", "line 2: 'a' stands there twice"),
        ("a,,many\n", "'many' is no size"),
        ("a,md5=AAAA,1\n", "is no SHA-256"),
        ("a,sha256=AAAA,1\n", "is no SHA-256"),
        ("a,none,1\n", "is no SHA-256"),
    ],
)
def test_a_crooked_record_is_refused_with_its_line(text, said):
    with pytest.raises(ValueError, match=said):
        parse_record(text)


def test_a_member_of_another_compression_that_is_damaged_is_named():
    data = bytearray(wheel(files={"demo/data.bin": BIG}, method=zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = archive.getinfo("demo/data.bin")
    data[member.header_offset + 30 + len(member.filename) + 500] ^= 0xFF

    assert any("'demo/data.bin'" in line for line in problems(("demo", bytes(data))))


def test_a_directory_that_leads_elsewhere_is_refused():
    data = bytearray(wheel(files={"demo/data.bin": BIG}))
    at = data.rindex(b"PK\1\2", 0, data.index(b"PK\1\2") + 4)
    struct.pack_into("<I", data, at + 42, 7)

    assert any(
        "is not where the wheel's directory says" in line
        for line in problems(("demo", bytes(data)))
    )


def test_a_hash_in_hexadecimal_digits_counts_and_is_written_as_it_should_be():
    digits = hashlib.sha256(b"x = 1\n").hexdigest()
    data = wheel(record={"demo/__init__.py": f"demo/__init__.py,sha256={digits},6"})
    blobs, image = laid_out(("demo", data))
    plain_blobs, plain = laid_out(("demo", wheel()))
    record = f"{SITE}/demo-1.0.dist-info/RECORD"

    assert content(plain_blobs, plain.layers[0], record) == content(blobs, image.layers[0], record)


def test_a_script_that_is_not_what_its_record_says_is_named():
    name = "demo-1.0.data/scripts/tool"
    found = problems(
        ("demo", wheel(files={name: b"#!python\n"}, record={name: f"{name},sha256={'A' * 43},9"}))
    )

    assert any("tool' is not what its RECORD says" in line for line in found)


def test_everything_wrong_in_all_wheels_is_reported_at_once():
    found = problems(
        ("one", wheel("one", record={"one/__init__.py": None}, wheel_version="2.0")),
        ("two", b"no zip at all"),
        (
            "three",
            wheel(
                "three", files={"three-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx=\n"}
            ),
        ),
    )

    assert ["one", "one", "three", "two"] == sorted(line.split("-")[0] for line in found)


@pytest.mark.parametrize("data", [b"", b"PK\5\6" + bytes(18), b"PK\3\4" * 100])
def test_what_is_no_wheel_at_all_is_refused(data):
    with pytest.raises(WheelError):
        plan_wheel(io.BytesIO(data), "3.11")


def crooked(change) -> bytes:
    """A wheel whose big member's stream is changed without its directory knowing."""
    data = bytearray(wheel(files={"demo/data.bin": BIG}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = archive.getinfo("demo/data.bin")
    start = member.header_offset + 30 + len(member.filename)
    return bytes(change(data, start, member.compress_size))


def flip(data, start, size):
    data[start + size // 2] ^= 0xFF
    return data


def end_early(data, start, size):
    """A stream that is whole but shorter, followed by bytes that are no part of it."""
    deflate = zlib.compressobj(wbits=-15)
    short = deflate.compress(BIG[:-50_000]) + deflate.flush()
    assert len(short) < size
    data[start : start + len(short)] = short
    return data


def never_end(data, start, size):
    """The same bytes in blocks of which none is marked as the last."""
    deflate = zlib.compressobj(wbits=-15)
    stream = deflate.compress(b"x" * 100) + deflate.flush(zlib.Z_FULL_FLUSH)
    data[start : start + len(stream)] = stream
    data[start + len(stream) : start + size] = (b"\0\0\0\xff\xff" * size)[: size - len(stream)]
    return data


def larger_than_it_says(data, start, size):
    """A member that inflates to more than its directory says."""
    at = data.rindex(b"demo/data.bin", 0, data.rindex(b"PK\5\6"))
    while data[at - 46 : at - 42] != b"PK\1\2":
        at = data.rindex(b"demo/data.bin", 0, at)
    struct.pack_into("<I", data, at - 46 + 24, len(BIG) - 1000)
    return data


@pytest.mark.parametrize("change", [flip, end_early, never_end, larger_than_it_says])
def test_a_stream_that_a_reader_of_the_layer_could_take_otherwise_is_refused(change):
    found = problems(("demo", crooked(change)))

    assert all("demo/data.bin" in line for line in found)


def test_a_local_header_with_another_name_is_refused():
    data = wheel(files={"demo/data.bin": BIG})
    at = data.index(b"demo/data.bin")
    found = problems(("demo", data[:at] + b"demo/evil.bin" + data[at + 13 :]))

    assert any("is called b'demo/evil.bin' where it stands" in line for line in found)


def test_an_encrypted_member_is_refused():
    data = bytearray(wheel(files={"demo/data.bin": BIG}))
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1

    assert any("is encrypted" in line for line in problems(("demo", bytes(data))))


def test_names_beyond_ascii_keep_their_bytes():
    blobs, image = laid_out(("demo", wheel(files={"demo/größe.py": b"x", "demo/grö.bin": BIG})))

    assert f"{SITE}/demo/größe.py" in members(blobs, image.layers[0])


def test_forty_wheels_at_most_have_a_layer_of_their_own(monkeypatch):
    monkeypatch.setattr("xmslurm_repro.image.packages.OWN_LAYER_FROM_BYTES", 1)
    wheels = [
        (f"p{n:02}", wheel(f"p{n:02}", files={f"p{n:02}.py": b"x" * n}, method=0))
        for n in range(45)
    ]
    _, image = laid_out(*wheels)

    assert 41 == len(image.layers)
    assert "5 packages" == image.layers[-1].title
    assert [f"p{n:02} 1.0" for n in range(5, 45)] == [each.title for each in image.layers[:-1]]
