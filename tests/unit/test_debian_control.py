"""Versions and relations of Debian packages, as dpkg reads them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmslurm_repro.lock.debian_control import (
    Relation,
    compare_versions,
    paragraphs,
    parse_relations,
)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0", "1.1"),
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0~~", "1.0~"),
        ("1.0", "1:0.1"),
        ("1.0-1", "1.0-1+b1"),
        ("1.0-1~bpo12+1", "1.0-1"),
        ("2.36-9+deb12u7", "2.36-9+deb12u10"),
        ("1.0a", "1.0+"),
        ("1.0", "1.0-0.1"),
        ("5.36.0-7", "5.36.0-7+deb12u1"),
    ],
)
def test_versions_are_in_debians_order(older, newer):
    assert compare_versions(older, newer) < 0 < compare_versions(newer, older)
    assert 0 == compare_versions(older, older)


def test_a_missing_revision_is_that_of_zero():
    assert 0 == compare_versions("1.0", "1.0-0")
    assert 0 == compare_versions("0:1.0", "1.0")


versions = st.from_regex(r"\A(?:[0-9]{1,2}:)?[0-9][0-9a-zA-Z.+~]{0,8}(?:-[0-9a-zA-Z.+~]{1,5})?\Z")


@given(versions, versions)
@settings(max_examples=60, deadline=None)
def test_dpkg_says_the_same(left, right):
    sign = compare_versions(left, right)
    how = "lt" if sign < 0 else "gt" if sign else "eq"

    assert 0 == subprocess.call(["dpkg", "--compare-versions", left, how, right])


def test_relations_are_read():
    found = parse_relations("libc6 (>= 2.36), perl:any | perl-base,\n a (= 1:2-3~x)")

    assert (
        (Relation(name="libc6", how=">=", version="2.36"),),
        (Relation(name="perl"), Relation(name="perl-base")),
        (Relation(name="a", how="=", version="1:2-3~x"),),
    ) == found


@pytest.mark.parametrize("text", ["a b", "A", "a (>=", "a (~ 1)", "a |"])
def test_what_is_no_relation_is_refused(text):
    with pytest.raises(ValueError, match="no relation"):
        parse_relations(text)


def test_a_virtual_package_without_a_version_satisfies_no_version():
    assert Relation(name="awk").allows(None)
    assert not Relation(name="awk", how=">=", version="1").allows(None)


def test_paragraphs_keep_continued_lines_and_leave_comments_out():
    text = "# c\nA: 1\nB:\n x\n y\n\n\nA: 2\n"

    assert [{"A": "1", "B": "\nx\ny"}, {"A": "2"}] == list(paragraphs(text))
