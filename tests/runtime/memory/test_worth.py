"""Which kept state is given up: what was left behind first, ends and forks last."""

from __future__ import annotations

import pytest

from slotmux.runtime.memory.prefix_tree import Checkpoint, Kind, Node
from slotmux.runtime.memory.worth import Worths


class Kept:
    """States at chosen positions, as sequences keep them one after the other."""

    def __init__(self):
        self.worths, self.n_rows, self.by_row = Worths(), 0, {}

    def keep(self, position, kind=Kind.PROMPT, before=None, salt=""):
        node = Node(None, b"", -1, salt)
        node.start = position - 16
        checkpoint = Checkpoint(node, 16, self.n_rows, kind, before)
        self.by_row[self.n_rows] = checkpoint
        self.n_rows += 1
        self.worths.add(checkpoint)
        if before is not None:
            self.worths.on_overtaken(before, checkpoint)
        return checkpoint

    def give_up(self):
        checkpoint = self.by_row[self.worths.pop_for_row()]
        self.worths.remove(checkpoint)
        checkpoint.is_kept = False
        return checkpoint


def test_what_was_left_behind_goes_first_the_end_of_a_conversation_last():
    kept = Kept()
    turns = []
    before = None
    for i in range(3):
        question = kept.keep(100 * i + 50, before=before)
        before = kept.keep(100 * i + 90, Kind.ANSWER, before=question)
        turns += [question, before]
    assert [kept.give_up() for _ in turns] == turns


def test_a_fork_in_the_road_outlasts_ends_that_save_less():
    kept = Kept()
    system = kept.keep(400)
    first = kept.keep(40 + 400, before=system)
    kept.worths.on_hit(system)
    second = kept.keep(30 + 400, before=system)
    other = kept.keep(64)
    assert [kept.give_up() for _ in range(3)] == [other, second, first]
    assert kept.give_up() is system


def test_where_answers_are_not_found_again_what_stands_before_them_is_kept():
    kept = Kept()
    for i in range(60):  # thoughts are cut: every conversation comes back to its prompt's end
        prompt = kept.keep(200 + i)
        kept.keep(250 + i, Kind.ANSWER, before=prompt)
        kept.worths.on_hit(prompt)
        kept.give_up()
        kept.give_up()
    prompt = kept.keep(200)
    answer = kept.keep(250, Kind.ANSWER, before=prompt)
    given_up = [kept.give_up() for _ in range(len(kept.worths))]
    assert given_up.index(answer) < given_up.index(prompt)


def test_old_ends_make_room_for_new_ones_whatever_they_save():
    kept = Kept()
    large = kept.keep(100_000)
    for i in range(200):
        kept.keep(100 + i)
        if kept.give_up() is large:
            return
    pytest.fail("a large state outlasts everything")


def test_a_state_on_the_way_replaces_only_what_is_less():
    kept = Kept()
    assert not kept.worths.may_replace(Kind.ROLLING, "")
    end = kept.keep(100)
    assert not kept.worths.may_replace(Kind.ROLLING, "")
    assert not kept.worths.may_replace(Kind.PROMPT, "")
    middle = kept.keep(200, before=end)
    assert kept.worths.may_replace(Kind.PROMPT, "")
    assert not kept.worths.may_replace(Kind.ROLLING, "")
    kept.keep(300, before=middle)
    assert kept.worths.may_replace(Kind.ROLLING, "")
    kept.worths.remove(end)
    kept.worths.remove(middle)
    assert kept.worths.may_replace(Kind.PROMPT, "another tenant")


def test_who_is_found_again_after_it_was_left_behind_is_a_fork():
    """A common beginning whose first owner has gone far: the second to come must not lose it before
    it has kept a state of its own."""
    kept = Kept()
    begin = kept.keep(40)
    middle = kept.keep(80, before=begin)
    kept.keep(120, Kind.ANSWER, before=middle)
    kept.worths.on_hit(begin)
    assert kept.give_up() is middle
    assert begin.is_fork


@pytest.mark.parametrize(("n_chats", "least"), [(10, 1.0), (30, 0.2), (60, 0.1)])
def test_more_conversations_than_fit_do_not_lose_everything(n_chats, least):
    """In rotation, room for 14 of them: age alone would find none."""
    kept, room = Kept(), 14
    ends = {}
    n_hits = n_asked = 0
    for turn in range(60):
        for chat in range(n_chats):
            before = ends.get(chat)
            is_here = before is not None and before.is_kept
            if is_here:
                kept.worths.on_hit(before)
            elif before is not None:
                kept.worths.on_regret()
            if turn >= 20:
                n_asked += 1
                n_hits += is_here
            end = kept.keep(100 + turn, Kind.ANSWER, before=before if is_here else None)
            ends[chat] = end
            while len(kept.worths) > room:
                kept.give_up()
    assert n_hits >= least * n_asked


def test_conversations_that_never_come_back_are_no_reason_to_keep_old_ones():
    kept = Kept()
    old = kept.keep(4000)
    for i in range(200):
        kept.keep(100 + i)
        if len(kept.worths) > 8:
            kept.give_up()
    assert not old.is_kept
