"""How the process's memory is kept."""

import ctypes
import gc

__all__ = ["keep", "settle"]

# Of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1
GIGABYTE = 2**30


def keep() -> None:
    """Keep freed memory for the next batch, where the C library is glibc.

    By default it returns every block over 128 KiB to the kernel, and gets it back page by page, zeroed: on a CPU the
    activations of each batch, which costs a small convolutional network a third of its rows a second. The process
    stays as large as its largest batch made it, as it would on any busy day.
    """
    try:
        library = ctypes.CDLL(None)
    except OSError:  # a C library that cannot be opened so is not glibc
        return
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(MMAP_THRESHOLD, GIGABYTE)
        library.mallopt(TRIM_THRESHOLD, MOST)


def settle() -> None:
    """Take what is in memory now to live as long as the process: no collection looks at it again.

    A full collection of the libraries' own objects takes 130 to 400 ms, in which no thread runs Python.
    """
    gc.collect()
    gc.freeze()
