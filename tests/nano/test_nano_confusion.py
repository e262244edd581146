"""What nano says instead, when it is wrong."""

import pytest

from finetune.nano.measure.confusion import AnswerKinds, confusions


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("Twelve plus seven is nineteen.", "sum"),
        ("Twelve plus seven is twenty.", "sum"),
        ("The capital of Lebanon is Paris.", "capital"),
        ("grass is blue", "colour"),
    ],
)
def test_a_wrong_reply_has_the_kind_of_the_nearest_right_one(reply, kind):
    assert AnswerKinds()(reply) == kind


def test_only_wrong_replies_are_counted_under_the_kind_that_was_asked():
    lines = [{"kind": "sum", "answer": "Two plus two is four."}] * 4 + [
        {"kind": "day", "answer": "After Monday comes Tuesday."}
    ]
    replies = ["Two plus two is four. ", "Two plus two is five.", "Grass is green.", "", "After Monday comes Tuesday."]
    assert confusions(lines, replies) == {"day": {}, "sum": {"sum": 1, "colour": 1, "nothing": 1}}
