"""A laptop whose clock is wrong by weeks, in either direction: nothing compares two clocks."""

from __future__ import annotations

import pytest

from tests.real.conftest import cluster_config
from tests.testbed.bed import Testbed
from tests.testbed.processes import program

MAIN = """\
import os, sys, time
open(os.environ["XMSLURM_OUTPUTS"] + "/r", "w").write(sys.argv[1])
print("on", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("shift", ["-40d", "+40d"])
def test_a_laptop_with_a_wrong_clock_loses_nothing(make_cli, testbed: Testbed, shift: str):
    cli = make_cli({"main.py": MAIN}, config=cluster_config(testbed))
    cli.prefix = (program("faketime"), "-f", shift)

    first = cli.launch("python", "main.py", "x", "0")
    cli.run("launch", "--", "python", "main.py", "y", "60")
    running = ""
    while running != "running":
        [status] = cli.json("status", "latest")
        running = status["state"]
        assert running in {"pending", "running"}
    followed = cli.run("logs", "latest", "-n", "1").stdout
    cli.run("cancel", "latest")
    [ended] = cli.json("wait", "latest", status=1)
    cli.run("fetch", "1", "--to", str(cli.folder / "here"))

    assert first["status"][0]["state"] == "completed"
    assert followed in {"on\n", ""}
    assert ended["state"] == "cancelled"
    assert (cli.folder / "here" / "r").read_text() == "x"
