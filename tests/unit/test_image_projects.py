"""The layer that makes local projects look installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
from dataclasses import replace

import pytest

from tests.unit.image_parts import SITE, TARGET, DictTree, base, content, members, raw, recipe
from xmslurm_repro.errors import ImageError
from xmslurm_repro.image.build import Builder
from xmslurm_repro.model.project import EntryPoint, Project
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory_blobs import MemoryBlobStore


def script(name: str, value: str, group="console_scripts") -> EntryPoint:
    return EntryPoint(group=group, name=name, value=value)


LAB = Project(
    name="My.Lab",
    version="1.0b0",
    sources=("src",),
    entry_points=(script("greet", "lab.cli:main"), script("x", "lab.x", "lab.plugins")),
)
LIB = Project(name="lib", version="2", sources=("libs/lib/src",))


@pytest.fixture
def blobs():
    return MemoryBlobStore()


def build(blobs, tmp_path, *projects, cached=True):
    base_image, tree = base(blobs), DictTree({"src/lab/cli.py": b"def main(): print('hi')\n"})
    wanted = replace(recipe(base_image, (), tree), projects=projects)
    cache = tmp_path / "cache" if cached else None
    return Builder(blobs, cache).build(wanted, base_image, tree, SilentProgress())


def test_projects_have_a_layer_of_their_own_between_packages_and_code(blobs, tmp_path):
    plain = build(blobs, tmp_path)
    image = build(blobs, tmp_path, LAB)

    assert ["folders", "project My.Lab 1.0b0", "code 1 of 1"] == [
        layer.title for layer in image.layers
    ]
    assert plain.layers == (image.layers[0], image.layers[2])
    assert image == build(blobs, tmp_path, LAB)
    assert image == build(blobs, tmp_path, LAB, cached=False)


def test_the_order_of_projects_leaves_no_trace(blobs, tmp_path):
    one, other = build(blobs, tmp_path, LAB, LIB), build(blobs, tmp_path, LIB, LAB, cached=False)

    assert one.manifest == other.manifest


def test_a_command_calls_the_function_and_is_executable(blobs, tmp_path):
    layer = build(blobs, tmp_path, LAB).layers[1]
    found = members(blobs, layer)

    assert 0o755 == found["xm/venv/bin/greet"].mode
    assert (
        b"#!/xm/venv/bin/python\nimport sys\n\nfrom lab.cli import main\n\n"
        b'if __name__ == "__main__":\n    sys.exit(main())\n'
    ) == content(blobs, layer, "xm/venv/bin/greet")
    assert sorted(found) == list(found)
    assert {1} == {each.mtime for each in found.values()}


def test_importlib_metadata_finds_the_project(blobs, tmp_path):
    layer = build(blobs, tmp_path, LAB, LIB).layers[1]
    subprocess.run(["tar", "-x", "-C", tmp_path], input=raw(blobs, layer), check=True)
    found = {
        each.metadata["Name"]: each
        for each in importlib.metadata.distributions(path=[str(tmp_path / SITE)])
    }

    assert {"My.Lab": "1.0b0", "lib": "2"} == {name: each.version for name, each in found.items()}
    assert {("console_scripts", "greet", "lab.cli:main"), ("lab.plugins", "x", "lab.x")} == {
        (each.group, each.name, each.value) for each in found["My.Lab"].entry_points
    }
    for each in found.values():
        for file in each.files:
            assert file.locate().is_file()


def test_modules_outside_the_usual_folders_are_put_on_the_path(blobs, tmp_path):
    layer = build(blobs, tmp_path, LAB, LIB).layers[1]

    assert b"/xm/code/libs/lib/src\n" == content(blobs, layer, f"{SITE}/__xmslurm_projects__.pth")
    assert f"{SITE}/__xmslurm_projects__.pth" not in members(
        blobs, build(blobs, tmp_path, LAB).layers[1]
    )


def test_commands_that_cannot_be_are_reported_at_once(blobs, tmp_path):
    bad = Project(
        name="bad", version="1", sources=("",), entry_points=(script("a", "no function"),)
    )
    python = Project(
        name="evil", version="1", sources=("",), entry_points=(script("python3", "a:b"),)
    )
    twin = replace(LAB, name="twin")
    with pytest.raises(ImageError) as caught:
        build(blobs, tmp_path, bad, python, LAB, twin)

    assert (
        "bad: 'a' = 'no function' names no function",
        "evil: python3 is a command of Python already",
        "twin: greet is a command of My.Lab already",
    ) == caught.value.details


def test_projects_need_a_python_in_the_base(blobs, tmp_path):
    base_image = base(blobs, target=None)
    wanted = replace(recipe(base_image), projects=(LAB,))

    with pytest.raises(ImageError, match="does not fit"):
        Builder(blobs, None).build(wanted, base_image, None, SilentProgress())


def test_a_target_of_another_python_moves_the_metadata(blobs, tmp_path):
    target = replace(TARGET, python="3.13.1", python_executable="/usr/bin/python3.13")
    base_image = base(blobs, target=target)
    wanted = replace(recipe(base_image), projects=(LIB,))
    layer = Builder(blobs, None).build(wanted, base_image, None, SilentProgress()).layers[1]

    assert any(
        "python3.13/site-packages/lib-2.dist-info/" in path for path in members(blobs, layer)
    )
