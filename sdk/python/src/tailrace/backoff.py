"""How long to wait before the next attempt. Pure: the random number is an argument."""

from dataclasses import dataclass

_DOUBLINGS_MAX = 32


@dataclass(frozen=True)
class Backoff:
    """Bounds of the waits, in seconds: that of the first, and the one that no wait exceeds."""

    base: float
    cap: float

    def delay(self, attempt: int, random: float) -> float:
        """Tell the wait before attempt ``attempt`` (0 is the first retry), with full jitter.

        It is anywhere between nothing and a bound that doubles, so that many clients of one restarted server do not
        return at the same moment. ``random`` is a number in [0, 1).
        """
        return float(random * min(self.cap, self.base * 2 ** min(attempt, _DOUBLINGS_MAX)))
