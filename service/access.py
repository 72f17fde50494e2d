"""One line for a request, as many a second as anybody can read."""

import logging
import time
from collections.abc import Mapping

from service.logs import Bucket

__all__ = ["AccessLog"]

LOG = logging.getLogger("guardhouse.access")


class AccessLog:
    """Writes what was asked and how it ended; answers, refusals and faults each have a bucket of lines of their own.

    So a flood of refusals hides no fault, and a line that is written says how many like it were not.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}  # by the first digit of the code

    def room(self, code: int) -> int | None:
        """Tell how many lines like this one were left out since the last, or None where this one is to be, too."""
        if not LOG.isEnabledFor(logging.INFO):
            return None
        bucket = self._buckets.get(code // 100)
        if bucket is None:
            bucket = self._buckets[code // 100] = Bucket()
        return bucket.take(time.time())

    def write(self, fields: Mapping[str, object], dropped: int) -> None:
        """Write a line, and how many before it were left out."""
        told = {**fields, "dropped": dropped} if dropped else fields
        LOG.info("%(method)s %(route)s %(code)s", fields, extra={"fields": told, "sampled": True})
