"""What the process does with freed memory."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
sys.path.insert(0, {root!r})
from service import memory
import torch
torch.set_num_threads(1)
{keep}
net = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU())
faults = []
with torch.inference_mode():
    for _ in range(20):
        net(torch.zeros(32, 1, 28, 28))
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[9])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is of glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    """Blocks as large as a batch's activations cost page faults once and not each time."""

    def faults(keep: str) -> int:
        program = PROGRAM.format(root=".", keep=keep)
        return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)

    assert faults("memory.keep()") < 100 < faults("")
