"""Asking several real clusters which would start first."""

from __future__ import annotations

from tests.real.conftest import cluster_config


def config_of(testbed) -> str:
    named = [
        cluster_config(testbed, name=name, more=f'options = {{ nodelist = "{node}" }}')
        for name, node in (("busy", "n3"), ("free", "n4"))
    ]
    closed = cluster_config(testbed, name="closed").replace(
        f"port = {testbed.ssh_port}", "port = 1"
    )
    picky = cluster_config(testbed, name="picky", more='options = { partition = "nosuch" }')
    first, *others = [*named, closed, picky]
    rest = [
        "".join(line for line in text.splitlines(True) if "default_cluster" not in line)
        for text in others
    ]
    return "\n".join([first, *rest])


def test_a_job_goes_where_it_would_start_first(make_cli, testbed):
    cli = make_cli({"main.py": "print()\n"}, config=config_of(testbed))
    words = ["sbatch", "--parsable", "-w", "n3", "--exclusive", "-t", "20", "-o", "/dev/null"]
    blocking = testbed.run([*words, "--wrap", "sleep 600"]).strip()
    try:
        launched = cli.launch(
            "true", options=("--cluster", "busy,closed,free,picky", "--time", "5", "--wait")
        )
        refused = cli.run("launch", "--cluster", "closed,picky", "--", "true", status=None)
    finally:
        testbed.run(["scancel", blocking])

    offers = {offer["cluster"]: offer for offer in launched["estimates"]}
    assert "free" == launched["runs"][0]["cluster"]
    assert 0 == offers["free"]["starts_in_seconds"]
    assert offers["busy"]["starts_in_seconds"] > 60
    assert "Connect call failed" in offers["closed"]["trouble"]
    assert "nosuch" in offers["picky"]["trouble"]
    assert refused.returncode != 0
    assert "none of the clusters would start the job" in refused.stderr
    assert "closed: " in refused.stderr
    assert "picky: " in refused.stderr
