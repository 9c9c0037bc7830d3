"""Locks: what a base image's platform means for markers and wheels."""

from __future__ import annotations

import platform
import sys

import pytest
from packaging.markers import default_environment
from packaging.tags import sys_tags

from tests.support.lock_trees import target
from xmslurm_repro.errors import ImageError
from xmslurm_repro.lock.target import marker_environment, wheel_tags
from xmslurm_repro.model.lock import MARKER_KEYS


def names(**options) -> list[str]:
    return [str(tag) for tag in wheel_tags(target(**options))]


def test_every_marker_is_given() -> None:
    environment = marker_environment(target())

    assert set(MARKER_KEYS) == set(environment)
    assert set(default_environment()) == set(environment)


def test_markers_are_the_targets_own() -> None:
    environment = marker_environment(target(python="3.13.1", architecture="arm64"))

    assert "3.13.1" == environment["python_full_version"]
    assert "3.13" == environment["python_version"]
    assert "aarch64" == environment["platform_machine"]
    assert "" == environment["platform_release"] == environment["platform_version"]


def test_on_this_machine_the_tags_are_those_that_packaging_finds() -> None:
    """An oracle: our tags for the running interpreter, against the library looking at it."""
    libc, version = platform.libc_ver()
    assert "glibc" == libc
    here = target(
        python=platform.python_version(),
        architecture={"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        libc=("glibc", *(int(part) for part in version.split(".")[:2])),
    )

    expected = [str(tag) for tag in sys_tags()]
    assert expected == [str(tag) for tag in wheel_tags(here)]
    assert "linux" == sys.platform


@pytest.mark.parametrize(
    ("tag", "options", "expected"),
    [
        ("cp311-cp311-manylinux_2_36_x86_64", {}, True),
        ("cp311-cp311-manylinux_2_37_x86_64", {}, False),
        ("cp311-cp311-manylinux2014_x86_64", {}, True),
        ("cp311-cp311-manylinux1_x86_64", {}, True),
        ("cp311-cp311-linux_x86_64", {}, True),
        ("cp37-abi3-manylinux_2_17_x86_64", {}, True),
        ("cp312-abi3-manylinux_2_17_x86_64", {}, False),
        ("py3-none-any", {}, True),
        ("py2-none-any", {}, False),
        ("cp311-cp311-manylinux_2_17_aarch64", {}, False),
        ("cp311-cp311-musllinux_1_2_x86_64", {}, False),
        ("cp311-cp311-macosx_11_0_x86_64", {}, False),
        ("cp311-cp311-manylinux2014_aarch64", {"architecture": "arm64"}, True),
        ("cp311-cp311-manylinux2010_aarch64", {"architecture": "arm64"}, False),
        ("cp311-cp311-musllinux_1_1_x86_64", {"libc": ("musl", 1, 2)}, True),
        ("cp311-cp311-manylinux_2_17_x86_64", {"libc": ("musl", 1, 2)}, False),
        ("cp37-cp37m-manylinux1_x86_64", {"python": "3.7.9"}, True),
        ("cp38-cp38-manylinux1_x86_64", {"python": "3.8.1"}, True),
    ],
)
def test_wheels_fit_by_python_libc_and_machine(tag, options, expected) -> None:
    assert expected == (tag in names(**options))


def test_newer_platforms_and_the_exact_interpreter_come_first() -> None:
    order = names()

    assert order.index("cp311-cp311-manylinux_2_36_x86_64") < order.index(
        "cp311-cp311-manylinux_2_17_x86_64"
    )
    assert order.index("cp311-cp311-manylinux1_x86_64") < order.index("cp311-abi3-linux_x86_64")
    assert order.index("cp311-abi3-manylinux1_x86_64") < order.index("py3-none-any")


def test_an_unknown_architecture_is_refused_with_the_target_named() -> None:
    with pytest.raises(ImageError) as caught:
        names(architecture="sparc")

    assert "sparc" in caught.value.message
    assert ("target: a test's base",) == caught.value.details
