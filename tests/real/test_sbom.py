"""What is inside an image: `sbom` and `base show`, judged by CycloneDX's own schema and dpkg."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.cli import QUICKSTART

pytestmark = pytest.mark.slow

JUDGE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
import json
text = sys.stdin.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
assert error is None, error
for component in json.loads(text)["components"]:
    if "purl" in component:
        purl = component["purl"]
        assert PackageURL.from_string(purl).to_string() == purl, purl
print("valid")
"""


def judged(text: str) -> str:
    words = ["uv", "run", "--quiet", "--no-project", "--isolated"]
    words += ["--with", "cyclonedx-python-lib[json-validation]", "python", "-c", JUDGE]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_bill_of_materials_lists_wheels_packages_and_code(make_cli):
    files = {path.name: path.read_text() for path in QUICKSTART.iterdir()}
    cli = make_cli(files)
    launched = cli.launch("python", "-c", "")
    text = cli.run("sbom").stdout
    bill = json.loads(text)
    [locked] = cli.json("show", "1")["manifest"]["locks"]
    by_name = {component["name"]: component for component in bill["components"]}
    [numpy] = [each for each in locked["artifacts"] if each["name"] == "numpy"]

    assert launched["image"] == bill["metadata"]["component"]["version"]
    assert numpy["sha256"] == f"sha256:{by_name['numpy']['hashes'][0]['content']}"
    assert by_name["numpy"]["purl"].startswith(f"pkg:pypi/numpy@{numpy['version']}?file_name=numpy")
    assert by_name["libc6"]["purl"].startswith("pkg:deb/debian/libc6@2.36-9%2Bdeb12u")
    assert by_name["libc6"]["purl"].endswith("?arch=amd64&distro=debian-12")
    assert launched["snapshot"] == by_name["snapshot"]["version"]
    assert "default" in by_name
    assert text == cli.run("sbom", "1/1").stdout
    assert "valid" == judged(text)


def test_a_bill_of_a_project_is_valid(make_cli):
    cli = make_cli(
        {
            "pyproject.toml": '[project]\nname = "Größe"\ndynamic = ["version"]\n'
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n',
        }
    )
    cli.launch("true")
    text = cli.run("sbom").stdout
    [project] = [
        each for each in json.loads(text)["components"] if each["bom-ref"].startswith("project@")
    ]

    assert ("Größe", "0+unknown") == (project["name"], project["version"])
    assert "valid" == judged(text)


def test_a_base_shows_python_libc_and_its_packages(make_cli):
    cli = make_cli()
    shown = cli.run("base", "show").stdout
    document = cli.json("base", "show", "default")
    packages = {each["name"]: each["version"] for each in document["contents"]["packages"]}

    assert "python    3.11.2 at /usr/bin/python3.11\n" in shown
    assert "libc      glibc 2.36\n" in shown
    assert "system    debian 12\n" in shown
    assert f"package   libc6={packages['libc6']}\n" in shown
    assert {"base-files", "ca-certificates", "python3.11-minimal"} <= set(packages)
