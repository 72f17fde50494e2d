"""The fronts' connections, as the device's thread waits for them: which have something to read, and which to send."""

import os
import selectors
from collections import deque
from collections.abc import Sequence

from service.engine.job import Source

__all__ = ["Sources"]


class Sources:
    """Everything that the device's thread waits for; used by that thread, but for :meth:`add` and :meth:`ring`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._new: deque[Source] = deque()
        self._unsent: dict[Source, None] = {}
        """Sources with something to send, in the order in which they got it."""

    def add(self, source: Source) -> None:
        """Wait for a source from now on; called from any thread."""
        self._new.append(source)
        self.ring()

    def ring(self) -> None:
        """End the present wait, or the next one; called from any thread."""
        os.eventfd_write(self._bell, 1)

    def wait(self, seconds: float | None) -> tuple[bool, Sequence[Source]]:
        """Wait for so many seconds, or as long as it takes; say whether anything happened, and which can be read."""
        events = self._selector.select(seconds)
        readable: list[Source] = []
        for key, kinds in events:
            source: Source | None = key.data
            if source is None:
                os.eventfd_read(self._bell)
                while self._new:
                    new = self._new.popleft()
                    self._selector.register(new, selectors.EVENT_READ, new)
                continue
            if kinds & selectors.EVENT_WRITE:
                self._unsent[source] = None
            if kinds & selectors.EVENT_READ:
                readable.append(source)
        return bool(events), readable

    def notify(self, source: Source) -> None:
        """Note that a source has something to send."""
        self._unsent[source] = None

    def flush(self) -> None:
        """Send what the sources have to send; if one takes no more, go on once it does."""
        unsent, self._unsent = self._unsent, {}
        for source in unsent:
            try:
                whole = source.flush()
                wanted = selectors.EVENT_READ if whole else selectors.EVENT_READ | selectors.EVENT_WRITE
                if self._selector.get_key(source).events != wanted:
                    self._selector.modify(source, wanted, source)
            except OSError:  # the front has gone; the end of its stream is read soon
                continue

    def forget(self, source: Source) -> None:
        """Close a source that has gone."""
        self._selector.unregister(source)
        self._unsent.pop(source, None)
        source.close()

    def close(self) -> None:
        """Close every source."""
        for key in tuple(self._selector.get_map().values()):
            if key.data is not None:
                self.forget(key.data)
