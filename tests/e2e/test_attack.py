"""`guardhouse attack --url` asks a running server, and finds what an attacker would find."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from example_folders import images as draw
from gateways import differing

if TYPE_CHECKING:
    from gateways import Gateway


def attack(bundles: Any, data: Path, *options: str) -> dict[str, Any]:
    """Run the command to its end, and give its document."""
    command = [sys.executable, "-m", "service", "attack", bundles.bundle("images"), "--data", data, "--json"]
    command += ["--config", bundles.config("images"), "--rows", "4", "--budget", "120", "--eps", "0.2", *options]
    environment = {**os.environ, "PYTHONPATH": bundles.python_path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_server_is_attacked_as_its_bundle_is(images: "Gateway", bundles: Any, tmp_path: Path) -> None:
    """The same attack has the same success over HTTP and in process, and the server counted the queries."""
    y = np.arange(60) % 3
    np.savez(tmp_path / "rows.npz", x=draw(y, 9), y=y)
    before = images.metrics()
    names = ("--attacks", "nes.plain", "--attacks", "hop_skip_jump.plain")
    here = attack(bundles, tmp_path / "rows.npz", *names)
    there = attack(bundles, tmp_path / "rows.npz", "--url", str(images.client.base_url), *names)
    counted = differing(images.metrics(), before, "guardhouse_rows_total")
    for name in ("nes", "hop_skip_jump"):
        one, two = (each["attacks"][name]["plain"]["eps_0.2"] for each in (here, there))
        assert one["sent"] > 0
        assert (one["success"], one["sent"], one["undetected"]) == (two["success"], two["sent"], two["undetected"])
    sent = sum(there["attacks"][name]["plain"]["eps_0.2"]["sent"] for name in ("nes", "hop_skip_jump"))
    assert sum(counted.values()) == sent + 1  # the first request asks which bundle is served
