"""Divides trials into chunks that are trained together, by the program's size and by what an
unfinished run has saved, possibly divided for other devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from fexpr.train.unfinished import Saved


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Trials that are trained together, and their saved state or None (of more trials, if more were
    trained together before).
    """

    trials: range
    saved: Saved | None = None

    @property
    def as_saved(self) -> bool:
        """Whether the chunk is exactly a saved one, not a part of it."""
        return self.saved is None or self.saved.trials == self.trials


def cut(trials: int, size: int, saved: Sequence[Saved]) -> list[Chunk]:
    """Divides all trials into chunks of at most `size`, keeping saved chunks so that nothing is
    lost; for trials saved in several folders, the furthest state is used.
    """
    saved = [s for s in saved if s.trials.stop <= trials]
    chunks, at = [], 0
    while at < trials:
        best = _furthest(s for s in saved if at in s.trials)
        if best:
            # finished trials need no space on the devices
            end = best.trials.stop if best.done else min(best.trials.stop, at + size)
        else:
            starts = (s.trials.start for s in saved if s.trials.start > at)
            end = min([at + size, trials, *starts])
        chunks.append(Chunk(range(at, end), best))
        at = end
    return chunks


def cut_share(trials: int, size: int, saved: Sequence[Saved]) -> list[Chunk]:
    """Divides all trials into chunks of `size`, the same in every process, whatever others have
    saved.
    """
    ranges = [range(at, min(at + size, trials)) for at in range(0, trials, size)]
    return [
        Chunk(r, _furthest(s for s in saved if r[0] in s.trials and r[-1] in s.trials))
        for r in ranges
    ]


def _furthest(saved: Iterable[Saved]) -> Saved | None:
    return max(saved, key=lambda s: (s.done, s.position, len(s.trials)), default=None)
