"""Trials in chunks: what is saved of an unfinished run is used, on whatever devices it goes on."""

from hypothesis import given
from hypothesis import strategies as st

from fexpr.runs.chunks import Chunk, cut, cut_share
from fexpr.train.unfinished import Saved


def ranges(chunks):
    return [c.trials for c in chunks]


def test_a_fresh_run_is_cut_by_the_programs_size():
    assert ranges(cut(10, 4, [])) == [range(0, 4), range(4, 8), range(8, 10)]
    assert cut(10, 4, []) == cut_share(10, 4, [])


def test_on_more_devices_what_was_cut_for_fewer_goes_on():
    done, half = Saved(range(0, 8), 0, True), Saved(range(8, 16), 5, False)
    chunks = cut(24, 9, [done, half])
    assert chunks == [Chunk(range(0, 8), done), Chunk(range(8, 16), half), Chunk(range(16, 24))]
    assert all(c.as_saved for c in chunks)


def test_where_fewer_trials_fit_a_chunk_goes_on_in_parts():
    half = Saved(range(0, 8), 5, False)
    chunks = cut(8, 6, [half])
    assert ranges(chunks) == [range(0, 6), range(6, 8)]
    assert [c.saved for c in chunks] == [half, half]
    assert not chunks[0].as_saved
    further = Saved(range(0, 6), 7, False)  # and was stopped again
    assert cut(8, 6, [half, further])[0].saved == further


def test_a_share_is_cut_alike_in_every_process():
    other = Saved(range(0, 8), 3, False)
    assert ranges(cut_share(12, 3, [other])) == ranges(cut_share(12, 3, []))
    assert [c.saved for c in cut_share(12, 3, [other])] == [other, other, None, None]


folders = st.lists(
    st.builds(
        lambda first, length, position, done: Saved(range(first, first + length), position, done),
        *[st.integers(0, 30), st.integers(1, 12), st.integers(0, 9), st.booleans()],
    ),
    max_size=6,
)


@given(st.integers(1, 30), st.integers(1, 10), folders)
def test_every_trial_is_in_one_chunk_that_fits(trials, size, saved):
    chunks = cut(trials, size, saved)
    assert [t for c in chunks for t in c.trials] == list(range(trials))
    for c in chunks:
        assert len(c.trials) <= size or c.saved.done
        if c.saved:
            assert set(c.trials) <= set(c.saved.trials)
        else:  # nothing that is saved of these trials is left unused
            assert not any(c.trials.start in s.trials for s in saved if s.trials.stop <= trials)
