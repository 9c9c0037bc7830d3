"""Adding a cluster to a file that people wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmslurm_repro.config.editing import keep_file, lines_of_keys, with_cluster
from xmslurm_repro.errors import ConfigError

FILE = Path("config.toml")
VALUES = {"hosts": ["a", "b"], "port": 22, "options": {"account": "lab", "exclusive": True}}

WRITTEN = """\
# mine, since 2025

base = 'lab'   # made on Monday
[defaults]
   cpus = 3 # three
[clusters.old]
hosts = "h"

  [clusters.old.options]
  account = "x"

[snapshot]
exclude = [
  "a",  # big
]
"""


def added(text: str, name: str = "new", *, is_default: bool = False) -> str:
    return with_cluster(text, FILE, name, VALUES, is_default=is_default)


def test_what_stands_in_a_file_stays_to_the_byte():
    assert added(WRITTEN).startswith(WRITTEN)
    assert tomllib.loads(added(WRITTEN))["clusters"]["new"] == VALUES
    assert tomllib.loads(added(WRITTEN))["clusters"]["old"] == {
        "hosts": "h",
        "options": {"account": "x"},
    }


def test_a_new_file_holds_the_cluster_alone(golden):
    golden("config/cluster-added.toml", added("", is_default=True))


def test_a_default_stands_before_every_table_and_below_the_remarks_at_the_head():
    lines = added(WRITTEN, is_default=True).splitlines()

    assert ["# mine, since 2025", "", 'default_cluster = "new"'] == lines[:3]
    assert WRITTEN.splitlines()[2:] == lines[3 : 1 + len(WRITTEN.splitlines())]


def test_a_default_that_is_there_is_replaced_where_it_stands():
    text = added("a = 1\ndefault_cluster  =  'old'  # why\n[defaults]\n", is_default=True)

    assert text.startswith('a = 1\ndefault_cluster  =  "new"  # why\n[defaults]\n')


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_value_of_any_characters_is_read_back_as_it_was(value: str):
    text = with_cluster("", FILE, "a b.c", {"user": value}, is_default=True)

    assert tomllib.loads(text) == {
        "default_cluster": "a b.c",
        "clusters": {"a b.c": {"user": value}},
    }


def test_a_cluster_is_never_described_twice():
    with pytest.raises(ConfigError, match="describes a cluster `old` already"):
        added(WRITTEN, "old")


def test_a_file_that_cannot_be_added_to_is_left_alone_and_the_table_is_shown():
    with pytest.raises(ConfigError, match="cannot be added to") as caught:
        added("clusters = { old = { hosts = 'h' } }\n")

    assert caught.value.details[0] == "[clusters.new]"


def test_a_file_that_is_no_toml_is_left_alone():
    with pytest.raises(ConfigError, match="is not TOML"):
        added("a =")


def test_a_link_stays_a_link_and_a_mode_what_it_was(tmp_path: Path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")

    keep_file(tmp_path / "link", "new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_every_key_is_found_in_the_line_in_which_it_begins():
    lines = lines_of_keys(WRITTEN)

    found = {".".join(path): WRITTEN.splitlines()[line - 1] for path, line in lines.items()}
    assert found["base"].startswith("base = ")
    assert found["defaults.cpus"] == "   cpus = 3 # three"
    assert found["clusters.old.options.account"] == '  account = "x"'
    assert found["snapshot.exclude"] == "exclude = ["
