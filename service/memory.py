"""Settings of a process's memory: the size of pages, what happens to freed memory, what the garbage collector scans."""

import asyncio
import ctypes
import gc
import os
from pathlib import Path

__all__ = ["huge_pages", "keep", "keep_giving_back", "settle"]

# Constants of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1
GIGABYTE = 2**30
STATM = Path("/proc/self/statm")
LOOK_SECONDS, GROWN = 5.0, 32 << 20


TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
"""An environment variable that glibc reads at the start of a process (from version 2.35 on), and what it may hold."""


def huge_pages() -> dict[str, str]:
    """Return the environment of a process that computes with large arrays: glibc asks the kernel for pages of 2 MiB.

    A batch reads all weights of the model. With pages of 4 KiB the processor looks up thousands of addresses on the
    way: a single row through a small convolutional network with its guards took 7 % more time. If the kernel gives no
    such pages, or the operator has set the variable, nothing changes.
    """
    return {TUNABLES: os.environ.get(TUNABLES, HUGE_PAGES)}


def keep() -> None:
    """Keep freed memory for the next batch. This has an effect only if the C library is glibc.

    By default glibc returns every freed block of more than 128 KiB to the kernel. The kernel then has to zero the
    pages again for the next block. On a CPU this concerns the activations of each batch, and it costs a small
    convolutional network a third of its rows per second. With this setting the process stays as large as its largest
    batch made it.
    """
    if (library := _glibc()) is not None:
        library.mallopt(MMAP_THRESHOLD, GIGABYTE)
        library.mallopt(TRIM_THRESHOLD, MOST)


async def keep_giving_back() -> None:
    """Return freed memory to the kernel while the process is larger than it was; has an effect with glibc alone.

    glibc gives back a heap's end alone. A small block that lives on above freed blocks keeps all of them: after sixty
    gRPC messages of 16 MB a front had kept 130 MB. Returning the pages takes a few milliseconds of another thread.
    """
    library = _glibc()
    if library is None:
        return
    usual = _resident()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if _resident() > usual + GROWN:
            await asyncio.to_thread(library.malloc_trim, 0)


def _resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except OSError:  # glibc can be opened like this, so the C library is another one
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None


def settle() -> None:
    """Exclude all objects that exist now from garbage collection, because they live as long as the process.

    Otherwise each full collection scans the objects of all imported libraries. This takes 130 to 400 ms, during which
    no thread runs Python.
    """
    gc.collect()
    gc.freeze()
