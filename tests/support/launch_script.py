"""A launch script, and the project that it packages."""

from __future__ import annotations

import json
from typing import Any

from tests.support.cli import Cli

PROJECT = {
    "pyproject.toml": '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.9"\n',
    "uv.lock": (
        'version = 1\nrevision = 2\nrequires-python = ">=3.9"\n\n'
        '[[package]]\nname = "p"\nversion = "1"\nsource = { virtual = "." }\n'
    ),
    "train.py": (
        "import json, os, pathlib, sys\n"
        "out = pathlib.Path(os.environ['XMSLURM_OUTPUTS'])\n"
        "said = [sys.argv[1:], os.environ.get('V'), os.environ['XMSLURM_WORK_UNIT_ID']]\n"
        "(out / 'said.json').write_text(json.dumps(said))\n"
        "sys.exit('--fail' in sys.argv)\n"
    ),
}

SCRIPT = """\
import asyncio
import datetime as dt

from absl import app, flags
from xmanager import xm

import xmslurm_repro.xm as xm_slurm

TITLE = flags.DEFINE_string("title", "sweep", "What to call it.")
FAIL = flags.DEFINE_bool("fail", False, "Whether the job fails.")
IDENTITY = flags.DEFINE_bool("identity", False, "Whether units have identities.")
EXPERIMENT = flags.DEFINE_integer("experiment", None, "The one to take up.")

VALUES = ["plain", "two words", "it's", '"q"', "$HOME", "a,b", "", "line\\nbreak", "*", "é"]


@xm.run_in_asyncio_loop
async def main(argv):
    open_experiment = (
        xm_slurm.get_experiment(EXPERIMENT.value)
        if EXPERIMENT.value
        else xm_slurm.create_experiment(TITLE.value)
    )
    async with open_experiment as experiment:
        executor = xm_slurm.Slurm(time=dt.timedelta(minutes=5))
        [train] = experiment.package(
            [
                xm_slurm.uv_container(
                    executor_spec=executor.Spec(),
                    entrypoint=xm.ModuleName("train"),
                    args={"common": 1},
                )
            ]
        )
        units = await experiment.add(
            xm.Job(train, executor),
            args=[{"args": {"v": v}, "env_vars": {"V": v}} for v in VALUES],
            identity="sweep" if IDENTITY.value else "",
        )
        last = await experiment.add(
            xm.Job(train, executor, args={"fail": True} if FAIL.value else ["last"]),
            identity="last" if IDENTITY.value else "",
        )
        await asyncio.gather(*(unit.wait_until_complete() for unit in [*units, last]))
        print("done", experiment.experiment_id, [unit.work_unit_id for unit in [*units, last]])


if __name__ == "__main__":
    app.run(main)
"""

VALUES = ["plain", "two words", "it's", '"q"', "$HOME", "a,b", "", "line\nbreak", "*", "é"]


def fetched(cli: Cli, experiment: int, unit: int) -> Any:
    """What a unit of the script left as its output."""
    cli.run("fetch", f"{experiment}/{unit}", "--to", str(cli.folder.parent / f"got{unit}"))
    [path] = (cli.folder.parent / f"got{unit}").rglob("said.json")
    return json.loads(path.read_text())
