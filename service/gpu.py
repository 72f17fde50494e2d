"""What the driver of an NVIDIA GPU says of the one we run on: memory, utilisation and power, by NVML."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Any, Self

import torch

__all__ = ["Gpu", "Reading"]

LOG = logging.getLogger("guardhouse")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read at once; None where the driver does not say (a MIG slice has no utilisation of its own)."""

    memory: dict[str, int]
    """Bytes by kind: allocated and reserved by this process' tensors, used by everybody, and total."""
    utilization: float | None
    """Share of the driver's last sample (up to a second) in which any kernel ran: not how much of the GPU it used."""
    watts: float | None


class Gpu:
    """One device, found by its UUID: NVML numbers all of the machine's, torch those that are visible to it."""

    def __init__(self, nvml: Any, handle: Any, device: torch.device) -> None:  # noqa: ANN401 - NVML has no types
        self._nvml, self._handle, self._device = nvml, handle, device

    @classmethod
    def of(cls, device: torch.device) -> Self | None:
        """Open a CUDA device; None for another, or, after a warning, where NVML cannot be had."""
        if device.type != "cuda":
            return None
        try:
            import pynvml  # noqa: PLC0415 - where there is no GPU it is not needed

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid), device)
        except Exception as trouble:  # noqa: BLE001 - no figure is worth a server that does not start
            LOG.warning("no GPU figures: %s", trouble)
            return None

    def read(self) -> Reading:
        """Ask the driver: about a millisecond."""
        memory = {
            "allocated": torch.cuda.memory_allocated(self._device),
            "reserved": torch.cuda.memory_reserved(self._device),
        }
        utilization = watts = None
        nvml = self._nvml
        with contextlib.suppress(nvml.NVMLError):
            info = nvml.nvmlDeviceGetMemoryInfo(self._handle)
            memory |= {"used": int(info.used), "total": int(info.total)}
        with contextlib.suppress(nvml.NVMLError):
            utilization = nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        with contextlib.suppress(nvml.NVMLError):
            watts = nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000
        return Reading(memory, utilization, watts)
