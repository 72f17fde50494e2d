"""Whether a server may listen on an address that other machines reach."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from guards.errors import Mistake
from service.lifecycle.exposure import keep_to_this_machine, refuse_exposed
from service.settings import Settings

BUNDLE = Path("bundle")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone(host: str) -> None:
    """On a loopback address a server needs no keys."""
    refuse_exposed(host, Settings(BUNDLE))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "fe80::1%eth0", "gateway.example"])  # noqa: S104
def test_other_machines(host: str) -> None:
    """On every other address a server needs keys, or the word that it is open."""
    with pytest.raises(Mistake, match="GUARDHOUSE_API_KEYS_FILE"):
        refuse_exposed(host, Settings(BUNDLE))
    refuse_exposed(host, Settings(BUNDLE, api_keys=Path("keys.yaml")))
    refuse_exposed(host, Settings(BUNDLE, open=True))


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, "127.0.0.1"),
        (["--host", "0.0.0.0"], {}, "0.0.0.0"),  # noqa: S104
        (["--host=0.0.0.0"], {}, "0.0.0.0"),  # noqa: S104
        ([], {"BENTOML_HOST": "0.0.0.0"}, "0.0.0.0"),  # noqa: S104
        ([], {"GUARDHOUSE_OPEN": "1"}, "0.0.0.0"),  # noqa: S104
        ([], {"GUARDHOUSE_API_KEYS_FILE": "keys.yaml"}, "0.0.0.0"),  # noqa: S104
    ],
)
def test_bentomls_default_address(
    arguments: list[str],
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`bentoml serve` without a host stays on this machine and says so; a host that somebody names is kept."""
    for name in ("BENTOML_HOST", "GUARDHOUSE_OPEN", "GUARDHOUSE_API_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["bentoml", "serve", *arguments])
    listening = SimpleNamespace(host="0.0.0.0")  # noqa: S104
    keep_to_this_machine(listening)
    assert listening.host == expected
    assert bool(capsys.readouterr().err) is (expected == "127.0.0.1")
