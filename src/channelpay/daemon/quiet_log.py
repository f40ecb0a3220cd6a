"""A log for what strangers cause: they must not be able to fill a disk. Spec T-29."""

from __future__ import annotations

from typing import Any

from channelpay.daemon.admission import Bucket
from channelpay.limits import LOG_BURST, LOG_LINES_PER_S


class QuietLog:
    """Writes at most LOG_BURST lines at once and LOG_LINES_PER_S after that; the next one tells how many were not.

    `log` is a structlog logger.
    """

    def __init__(self, log: Any, now: float) -> None:
        self._log = log
        self._lines = Bucket(LOG_LINES_PER_S, LOG_BURST, now)
        self._left_out = 0

    def info(self, now: float, event: str, **about: Any) -> None:
        """Log an event, or count it if there were too many; `now` in seconds that never go back."""
        if not self._lines.take(now):
            self._left_out += 1
            return
        if self._left_out:
            about["left_out"] = self._left_out
            self._left_out = 0
        self._log.info(event, **about)
