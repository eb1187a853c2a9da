"""Which trials are trained together: as the program's size says, and as an unfinished run has them
on the disk, which may have been cut for other devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from fexpr.train.unfinished import Saved


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Trials that are trained together, and what is saved of them (of more trials, where those were
    trained together before), or None.
    """

    trials: range
    saved: Saved | None = None

    @property
    def as_saved(self) -> bool:
        """Whether it is what was trained before, not a part of it."""
        return self.saved is None or self.saved.trials == self.trials


def cut(trials: int, size: int, saved: Sequence[Saved]) -> list[Chunk]:
    """All trials in chunks of at most `size`, as they were cut before wherever something of them is
    saved, so that none of it is lost; of trials in several folders what has gone furthest.
    """
    saved = [s for s in saved if s.trials.stop <= trials]
    chunks, at = [], 0
    while at < trials:
        best = _furthest(s for s in saved if at in s.trials)
        if best:
            # what is trained needs no place on the devices
            end = best.trials.stop if best.done else min(best.trials.stop, at + size)
        else:
            starts = (s.trials.start for s in saved if s.trials.start > at)
            end = min([at + size, trials, *starts])
        chunks.append(Chunk(range(at, end), best))
        at = end
    return chunks


def cut_share(trials: int, size: int, saved: Sequence[Saved]) -> list[Chunk]:
    """All trials in chunks of `size`, the same in every process whatever the others have saved."""
    ranges = [range(at, min(at + size, trials)) for at in range(0, trials, size)]
    return [
        Chunk(r, _furthest(s for s in saved if r[0] in s.trials and r[-1] in s.trials))
        for r in ranges
    ]


def _furthest(saved: Iterable[Saved]) -> Saved | None:
    return max(saved, key=lambda s: (s.done, s.position, len(s.trials)), default=None)
