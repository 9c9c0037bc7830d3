"""Answering again: where answers are kept, and what ends it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from xmslurm_repro import cli
from xmslurm_repro.cli import again
from xmslurm_repro.config import load_settings

PLACES = {
    "home": {},
    "xdg": {"XDG_DATA_HOME": "/data"},
    "relative-xdg": {"XDG_DATA_HOME": "data"},
    "told": {"XMSLURM_REPRO_HOME": "/elsewhere/"},
    "relative": {"XMSLURM_REPRO_HOME": "../here/x"},
    "tilde": {"XMSLURM_REPRO_HOME": "~"},
    "below-tilde": {"XMSLURM_REPRO_HOME": "~/x//y"},
    "no-tilde": {"XMSLURM_REPRO_HOME": "~x/y"},
    "empty": {"XMSLURM_REPRO_HOME": "", "XMSLURM_REPRO_CACHE_DIR": ""},
    "cache": {"XMSLURM_REPRO_CACHE_DIR": "/cache"},
    "relative-cache": {"XMSLURM_REPRO_HOME": "/h", "XMSLURM_REPRO_CACHE_DIR": "cache/x"},
}


@pytest.mark.parametrize("place", PLACES)
def test_answers_are_looked_for_where_the_settings_put_them(tmp_path: Path, place: str):
    environ = {"HOME": str(tmp_path / "user"), **PLACES[place]}
    start = tmp_path / "work"
    start.mkdir()
    settings = load_settings(environ=environ, start=start)

    assert settings.cache_dir / "snapshots" == Path(again.cache_folder(environ, str(start)))


def test_another_environment_is_another_question(monkeypatch: pytest.MonkeyPatch):
    environ = {"HOME": "/h", "PATH": "/bin", "EDITOR": "vi"}
    known = again.question_of(["snapshot"], environ, "/w")
    others = [
        again.question_of(["snapshot", "--json"], environ, "/w"),
        again.question_of(["snapshot"], environ, "/w/below"),
        *(
            again.question_of(["snapshot"], {**environ, name: "x"}, "/w")
            for name in (
                "HOME",
                "GIT_CONFIG_GLOBAL",
                "XDG_CONFIG_HOME",
                "XMSLURM_REPRO_BASE",
                "NO_COLOR",
            )
        ),
    ]

    assert known not in others
    assert known == again.question_of(["snapshot"], {**environ, "EDITOR": "ed"}, "/w")


@pytest.mark.parametrize("name", ["FORCE_COLOR", "_XMSLURM_REPRO_COMPLETE"])
def test_what_only_click_knows_is_left_to_click(name: str):
    assert not again.is_usual({name: "1"})


def test_an_interruption_ends_it_as_any_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(again, "print_again", interrupted)
    monkeypatch.setattr(sys, "argv", ["xmslurm-repro", "snapshot"])

    with pytest.raises(SystemExit) as end:
        cli.main()
    assert 130 == end.value.code
    assert "interrupted\n" == capsys.readouterr().err


def test_a_folder_that_is_gone_has_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    monkeypatch.setenv("HOME", str(tmp_path))

    again.print_again()

    assert not os.path.exists(folder)
