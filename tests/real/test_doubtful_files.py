"""Secrets and large files on the way into a launch, from the command line."""


def test_a_secret_stops_a_launch_until_somebody_decides(make_cli, tmp_path):
    cli = make_cli({"main.py": "print('ran')\n"})
    (cli.folder / ".env").write_text("PASSWORD=x\n")

    refused = cli.run("launch", "--", "python3", "main.py", status=30)

    assert ".env: 11 bytes; its name looks like a secret's (.env)" in refused.stderr
    assert "--exclude" in refused.stderr
    assert cli.json("list") == []

    launched = cli.launch("python3", "main.py", options=("--wait", "--exclude", ".env"))
    manifest = cli.json("show", str(launched["experiment"]))["manifest"]

    assert {launched["snapshot"]: {".env": "excluded by choice (.env)"}} == manifest["left_out"]


def test_the_configuration_decides_for_all_launches(make_cli):
    config = '[snapshot]\ninclude = ".env"\nmax_file_size = "1KiB"\nexclude = ["*.bin"]\n'
    cli = make_cli({"main.py": "print('ran')\n"}, config=config)
    (cli.folder / ".env").write_text("PASSWORD=x\n")
    (cli.folder / "big.bin").write_bytes(b"\0" * 2000)

    plan = cli.json("launch", "--dry-run", "--", "python3", "main.py")

    assert {"big.bin": "excluded by choice (*.bin)"} == plan["origin"]["skipped"]
    (cli.folder / "big.dat").write_bytes(b"\0" * 2000)
    refused = cli.run("launch", "--dry-run", "--", "python3", "main.py", status=30)
    assert "big.dat: 2.0 kB; it is larger than 1.0 kB" in refused.stderr


def test_a_pointer_of_git_lfs_is_said_before_the_launch(make_cli):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n"
    cli = make_cli({"main.py": "", ".gitattributes": "*.pt -text\n", "model.pt": pointer})
    (cli.folder / ".gitattributes").write_text("*.pt filter=lfs\n")

    done = cli.run("launch", "--dry-run", "--", "python3", "main.py")

    assert "model.pt: a pointer of Git LFS, not the file itself" in done.stderr
