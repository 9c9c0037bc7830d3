"""`docker_container` in a launch script: built by real engines, one digest, run and replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.cli import Cli
from tests.support.engines import load, run_docker, run_podman

pytestmark = pytest.mark.slow

DOCKERFILE = """\
FROM lab/base:1 AS first
ARG WORD=none
RUN mkdir -p /opt/made && echo "$WORD" > /opt/made/word && date > /opt/made/when

FROM lab/base:1 AS run
ARG SOURCE_DATE_EPOCH
COPY --from=first /opt/made/word /srv/word
COPY train.py /srv/
COPY <<"EOF" /srv/settings
as it stands: $HOME
EOF
RUN <<EOF
set -e
cp /srv/settings /srv/copy
python3 -m compileall -q /srv
EOF
WORKDIR /srv
ENTRYPOINT ["python3", "train.py"]

FROM run AS other
RUN false
"""
TRAIN = """\
import os, sys
print(open("word").read().strip(), open("copy").read().strip(), sys.argv[1:])
with open(os.environ["XMSLURM_OUTPUTS"] + "/out", "w") as file:
    file.write("made")
"""
SCRIPT = """\
import datetime as dt
import pathlib

from absl import app
from xmanager import xm

import xmslurm_repro.xm as xm_slurm


@xm.run_in_asyncio_loop
async def main(_):
    async with xm_slurm.create_experiment("docker") as experiment:
        executor = xm_slurm.Slurm(time=dt.timedelta(minutes=5))
        [run] = experiment.package([xm_slurm.docker_container(
            executor_spec=executor.Spec(),
            context=pathlib.Path(__file__).parent,
            target="run",
            build_args={"WORD": "hello"},
            labels={"team": "vision"},
            args={"lr": 0.1},
        )])
        unit = await experiment.add(xm.Job(executable=run, executor=executor))
        await unit.wait_until_complete()


if __name__ == "__main__":
    app.run(main)
"""
FILES = {
    "Dockerfile": DOCKERFILE,
    "train.py": TRAIN,
    "launch.py": SCRIPT,
    ".gitignore": "ignored\n",
    ".dockerignore": "*.md\n",
}


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request, base_home) -> Iterator[str]:
    """The URL of an engine that has our base as ``lab/base:1``."""
    if request.param == "docker":
        with run_docker() as url:
            load(base_home, "lab/base:1", url)
            yield url
    else:
        with run_podman() as (url, words):
            load(base_home, "lab/base:1", words)
            yield url


@pytest.fixture
def lab(make_cli, engine):
    def make() -> Cli:
        cli = make_cli(FILES)
        cli.env["DOCKER_HOST"] = engine
        return cli

    return make


def image_of(cli: Cli) -> dict:
    (image,) = json.loads(cli.run("show", "latest", "--json").stdout)["manifest"]["images"]
    return image


def test_two_launches_give_one_image_that_runs_and_replays(lab):
    one, two = lab(), lab()
    (two.folder / "ignored").write_text("what git ignores")
    one.run("launch", "launch.py")
    two.run("launch", "launch.py")

    assert image_of(one)["manifest"] == image_of(two)["manifest"]
    assert "hello as it stands: $HOME ['--lr=0.1']\n" == one.run("logs", "latest").stdout
    one.env["DOCKER_HOST"] = "unix:///nowhere/socket"
    assert ["R3"] == [each["level"] for each in one.json("replay", "latest")["verdicts"]]


def test_an_edit_of_what_is_copied_is_another_image_and_the_code_is_recorded(lab):
    cli = lab()
    cli.run("launch", "launch.py")
    before, listed = image_of(cli), cli.json("show", "latest")["manifest"]["snapshots"]
    (cli.folder / "train.py").write_text(TRAIN + "# edited\n")
    cli.run("launch", "launch.py")

    assert before["manifest"] != image_of(cli)["manifest"]
    assert listed != cli.json("show", "latest")["manifest"]["snapshots"]
