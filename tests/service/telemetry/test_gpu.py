"""What the driver reports of a GPU, and what a scrape has if the driver reports only a part."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families as parse_text
from scrapes import scrape_of

from service.telemetry.gpu import Gpu

CUDA = torch.device("cuda:1")


class NVMLError(Exception):
    """NVML's exception."""


class Driver:
    """NVML of one device; what is in ``silent`` it does not support."""

    NVMLError = NVMLError

    def __init__(self, *silent: str) -> None:
        self.silent = silent

    def _say(self, what: str, answer: Any) -> Any:
        if what in self.silent:
            raise NVMLError(what)
        return answer

    def nvmlDeviceGetMemoryInfo(self, _: object) -> Any:  # noqa: N802 - NVML's own name
        return self._say("memory", SimpleNamespace(used=3_000_000, total=80_000_000))

    def nvmlDeviceGetUtilizationRates(self, _: object) -> Any:  # noqa: N802
        return self._say("utilization", SimpleNamespace(gpu=37))

    def nvmlDeviceGetPowerUsage(self, _: object) -> Any:  # noqa: N802
        return self._say("power", 251_500)


@pytest.fixture
def tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch hold two megabytes on the device, one of them in tensors."""
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1_000_000)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2_000_000)


def scrape(driver: Driver) -> dict[str, dict[str, float]]:
    """Give what a scrape says of the device: values by kind or by nothing."""
    families = parse_text(scrape_of(device="cuda:1", gpu=Gpu(driver, object(), CUDA)))
    return {
        family.name: {sample.labels.get("kind", ""): sample.value for sample in family.samples}
        for family in families
        if family.name.startswith(("guardhouse_gpu", "guardhouse_device_memory"))
        and all(sample.labels["device"] == "cuda:1" for sample in family.samples)
    }


@pytest.mark.usefixtures("tensors")
def test_units() -> None:
    """Bytes are bytes, per cent become a ratio, and milliwatts watts."""
    kinds = {"allocated": 1_000_000, "reserved": 2_000_000, "used": 3_000_000, "total": 80_000_000}
    assert scrape(Driver()) == {
        "guardhouse_device_memory_bytes": kinds,
        "guardhouse_gpu_utilization_ratio": {"": 0.37},
        "guardhouse_gpu_power_watts": {"": 251.5},
    }


@pytest.mark.usefixtures("tensors")
@pytest.mark.parametrize(
    ("silent", "missing"),
    [("utilization", "guardhouse_gpu_utilization_ratio"), ("power", "guardhouse_gpu_power_watts")],
)
def test_what_the_driver_does_not_say_is_absent(silent: str, missing: str) -> None:
    """A figure that a device does not support is no series, and above all not zero; the others are there."""
    assert scrape(Driver()).keys() - scrape(Driver(silent)).keys() == {missing}


@pytest.mark.usefixtures("tensors")
def test_memory_without_the_driver_is_torchs() -> None:
    """If the driver does not give the memory, the memory that torch holds is still reported."""
    assert scrape(Driver("memory"))["guardhouse_device_memory_bytes"] == {"allocated": 1e6, "reserved": 2e6}


def test_a_cpu_has_no_figures() -> None:
    """On a CPU there is no GPU to ask."""
    assert Gpu.of(torch.device("cpu")) is None


def test_a_driver_that_cannot_be_asked_costs_its_figures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with NVML, even if it is absent, the log has one warning and the model is served."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpu.of(CUDA) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no GPU figures" in caplog.text
