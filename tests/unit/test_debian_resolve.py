"""What Debian packages need beyond what a base has."""

from __future__ import annotations

import pytest

from xmslurm_repro.errors import SystemPackagesError
from xmslurm_repro.lock.debian_control import paragraphs
from xmslurm_repro.lock.debian_resolve import installed_packages, resolve_packages

ARCHIVE = """\
Package: tool
Version: 2.0
Architecture: amd64
Depends: libtool1 (>= 1.5), awk, data | other-data

Package: tool
Version: 1.0
Architecture: amd64
Depends: libtool1

Package: libtool1
Version: 1.5-1
Architecture: amd64
Pre-Depends: libc6 (>= 2.30)

Package: data
Version: 1
Architecture: all
Depends: tool

Package: mawk
Version: 1
Architecture: amd64
Provides: awk

Package: gawk
Version: 5
Architecture: amd64
Provides: awk (= 5)

Package: foreign
Version: 1
Architecture: arm64

Package: needy
Version: 1
Architecture: amd64
Depends: libc6 (>= 2.40), gone

Package: loner
Version: 1
Architecture: amd64
Conflicts: awk

Package: versioned
Version: 1
Architecture: amd64
Depends: awk (>= 4)
"""
BASE = {
    "var/lib/dpkg/status": b"""\
Package: libc6
Status: install ok installed
Version: 2.36-9

Package: removed
Status: deinstall ok config-files
Version: 1
"""
}


def resolve(*requested, base=BASE):
    found = resolve_packages(
        requested, installed_packages(base), list(paragraphs(ARCHIVE)), "amd64"
    )
    return [f"{package.name}={package.version}" for package in found]


def test_all_that_is_needed_and_not_there_is_taken():
    assert ["data=1", "gawk=5", "libtool1=1.5-1", "tool=2.0"] == resolve("tool")


def test_a_version_may_be_asked_for():
    assert ["libtool1=1.5-1", "tool=1.0"] == resolve("tool=1.0")


def test_a_virtual_package_is_satisfied_by_what_the_base_has():
    base = {
        **BASE,
        "var/lib/dpkg/status.d/mawk": b"Package: mawk\nVersion: 1\nProvides: awk\n",
    }

    assert ["data=1", "libtool1=1.5-1", "tool=2.0"] == resolve("tool", base=base)


def test_a_virtual_package_may_be_asked_for_in_a_version():
    assert ["gawk=5", "versioned=1"] == resolve("versioned")


def test_what_is_chosen_already_serves_again():
    assert ["data=1", "libtool1=1.5-1", "mawk=1", "tool=2.0"] == resolve("mawk", "tool")


def test_what_the_base_has_is_not_taken_again():
    assert [] == resolve("libc6")


def test_everything_that_cannot_be_had_is_said_at_once():
    with pytest.raises(SystemPackagesError) as caught:
        resolve("needy", "foreign", "tool=3")

    assert (
        "foreign: there is none",
        "tool (= 3): there is 2.0, 1.0",
        "needy needs libc6 (>= 2.40), and the base has libc6 2.36-9",
        "needy needs gone: there is none",
    ) == caught.value.details
    assert "base create" in caught.value.hint


def test_names_that_no_archive_knows_are_to_be_checked():
    with pytest.raises(SystemPackagesError) as caught:
        resolve("tol")

    assert caught.value.hint.startswith("Check the names")


def test_packages_that_conflict_are_refused():
    with pytest.raises(SystemPackagesError) as caught:
        resolve("mawk", "loner")

    assert ("loner cannot be beside mawk (awk)",) == caught.value.details


def test_two_versions_of_one_package_are_refused():
    with pytest.raises(SystemPackagesError) as caught:
        resolve("tool=1.0", "tool=2.0")

    assert ("tool (= 2.0), and tool 1.0 was chosen (asked for)",) == caught.value.details


def test_what_was_removed_from_the_base_is_not_there():
    assert ["libc6"] == [package.name for package in installed_packages(BASE)]
