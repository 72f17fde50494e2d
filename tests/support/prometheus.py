"""A real Prometheus, as Debian packages it, which scrapes the servers under test."""

import contextlib
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from fresh_client import FRESH
from gateways import STALL_SECONDS, free_port


def _address(url: str) -> str:
    return url.removeprefix("http://")


class Prometheus:
    """A Prometheus that scrapes its targets often, and evaluates rules at a given or at the rules' own interval."""

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str],
        rules: Sequence[str],
        *,
        scrape: str = "150ms",
        evaluate: str | None = "1s",
        alertmanager: str | None = None,
        **labels: str,
    ) -> None:
        """Start Prometheus on the URLs of targets, with the text of rule files, and with labels for every target."""
        self.url = f"http://127.0.0.1:{free_port()}"
        for number, text in enumerate(rules):
            document = yaml.safe_load(text)
            for group in document["groups"]:
                group["interval"] = evaluate or group["interval"]
            (folder / f"{number}.rules.yaml").write_text(yaml.safe_dump(document))
        named = {"targets": [_address(url) for url in targets], "labels": labels}
        config: dict[str, Any] = {
            "global": {"scrape_interval": scrape, "scrape_timeout": scrape, "evaluation_interval": evaluate or "15s"},
            "rule_files": ["*.rules.yaml"],
            "scrape_configs": [{"job_name": "guardhouse", "static_configs": [named]}],
        }
        if alertmanager is not None:
            there = {"static_configs": [{"targets": [_address(alertmanager)]}]}
            config["alerting"] = {"alertmanagers": [there]}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.log_path = folder / "prometheus.log"
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [*command, f"--web.listen-address={_address(self.url)}"], stdout=log, stderr=log
            )

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """Evaluate an expression as an instant vector."""
        params = {"query": expr} | ({} if at is None else {"time": f"{at:.3f}"})
        answer = FRESH.get(f"{self.url}/api/v1/query", params=params, timeout=STALL_SECONDS).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def number(self, expr: str) -> float:
        """Evaluate an expression as one number, 0 if it has no value."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else 0.0

    def wait_ready(self, seconds: float = 180) -> "Prometheus":
        """Wait until Prometheus answers queries."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log_path.read_text()
            with contextlib.suppress(httpx.TransportError):
                if FRESH.get(f"{self.url}/-/ready", timeout=STALL_SECONDS).status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s:\n{self.log_path.read_text()}")

    def wait_for(self, expr: str, least: float, seconds: float = 240) -> None:
        """Wait until an expression is at least ``least``."""
        end = time.monotonic() + seconds
        while (found := self.number(expr)) < least:
            assert time.monotonic() < end, f"{expr} is {found}, not {least}:\n{self.log_path.read_text()[-3000:]}"
            time.sleep(0.1)

    def health(self) -> list[str]:
        """Give the health of each rule at its last evaluation."""
        groups = FRESH.get(f"{self.url}/api/v1/rules", timeout=STALL_SECONDS).json()["data"]["groups"]
        return [rule["health"] for group in groups for rule in group["rules"]]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STALL_SECONDS)
        finally:
            self.process.kill()
