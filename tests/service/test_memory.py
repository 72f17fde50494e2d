"""What a process does with freed memory, and in which pages its arrays lie."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from service import memory

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")

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
print(*(after - before for before, after in zip(faults, faults[1:])))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is of glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    """Blocks as large as a batch's activations cost page faults once and not each time."""

    def faults(keep: str) -> list[int]:
        program = PROGRAM.format(root=".", keep=keep)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
        return [int(number) for number in done.stdout.split()]

    # The heap may grow for a while, and a kernel may reclaim pages by itself: some calls have faults then, not each.
    kept, given_back = faults("memory.keep()"), faults("")
    assert 10 * min(kept) < median(given_back), (kept, given_back)


LARGE_ARRAY = """
import numpy as np
array = np.ones(2 ** 25)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is of glibc's allocator")
@pytest.mark.skipif("[never]" in THP.read_text() if THP.exists() else True, reason="the kernel gives no huge pages")
def test_the_engine_computes_in_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with this environment gets huge pages for large arrays; what the operator has set stays."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    asked = {**os.environ, **memory.huge_pages(), "NUMPY_MADVISE_HUGEPAGE": "0"}
    found = subprocess.run([sys.executable, "-c", LARGE_ARRAY], capture_output=True, check=True, text=True, env=asked)
    assert int(found.stdout) > 100_000  # of 262,144 KiB
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert memory.huge_pages() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}


FREED = """
import asyncio
from service import memory

memory.LOOK_SECONDS = 0.05

async def main():
    looking = asyncio.create_task(memory.keep_giving_back())
    await asyncio.sleep(0)
    pieces = [bytearray(5000) for _ in range(20_000)]
    del pieces[:-1]
    before = memory._resident()
    for _ in range(200):
        await asyncio.sleep(0.05)
        if memory._resident() < before - 50_000_000:
            break
    print((before - memory._resident()) // 1_000_000)

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the function is of glibc's allocator")
def test_freed_memory_is_given_back() -> None:
    """A process that has grown returns freed memory to the kernel, even if a small block lies above the freed ones."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, check=True, text=True)
    assert int(done.stdout) >= 50
