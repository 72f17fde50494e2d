"""Reads the memory, the utilisation and the power of the NVIDIA GPU that serves the model, through NVML."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Any, Self

import torch

__all__ = ["Gpu", "Reading"]

LOG = logging.getLogger("guardhouse")


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading. A figure is None if the driver does not give it (a MIG slice has no utilisation of its own)."""

    memory: dict[str, int]
    """Bytes by kind: allocated and reserved for this process's tensors, used by all processes, and total."""
    utilization: float | None
    """The share of the driver's last sampling period (up to a second) in which any kernel ran.

    This share does not say how much of the GPU a kernel used.
    """
    watts: float | None


class Gpu:
    """One device, found by its UUID, because NVML numbers all GPUs of the machine and torch only the visible GPUs."""

    def __init__(self, nvml: Any, handle: Any, device: torch.device) -> None:  # noqa: ANN401 - NVML has no types
        self._nvml, self._handle, self._device = nvml, handle, device

    @classmethod
    def of(cls, device: torch.device) -> Self | None:
        """Open a CUDA device. Return None for any other device and, after a warning, if NVML is not available."""
        if device.type != "cuda":
            return None
        try:
            import pynvml  # noqa: PLC0415 - only needed if there is a GPU

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid), device)
        except Exception as trouble:  # noqa: BLE001 - the server starts even without these figures
            LOG.warning("no GPU figures: %s", trouble)
            return None

    def read(self) -> Reading:
        """Read the figures from the driver; this takes about a millisecond."""
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
