"""The access log: one line for each request, with a limit of lines per second."""

import logging
import time
from collections.abc import Mapping

from service.telemetry.logs import Bucket

__all__ = ["AccessLog"]

LOG = logging.getLogger("guardhouse.access")


class AccessLog:
    """Writes the method, the route and the code of requests. Each class of codes (2xx, 4xx, 5xx) has its own limit.

    So a flood of refusals does not hide errors of the server. A line says how many lines before it were left out.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}  # the key is the first digit of the code

    def room(self, code: int) -> int | None:
        """Return how many lines of this class were left out since its last line; None if this line has no room."""
        if not LOG.isEnabledFor(logging.INFO):
            return None
        bucket = self._buckets.get(code // 100)
        if bucket is None:
            bucket = self._buckets[code // 100] = Bucket()
        return bucket.take(time.time())

    def write(self, fields: Mapping[str, object], dropped: int) -> None:
        """Write a line that also says how many lines before it were left out."""
        told = {**fields, "dropped": dropped} if dropped else fields
        LOG.info("%(method)s %(route)s %(code)s", fields, extra={"fields": told, "sampled": True})
