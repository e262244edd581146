"""Signs of Markdown and HTML, and most of an address, are not read; everything else stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing_ttt.plain_text_ttt import plain_text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("# My week", "My week"),
        ("## Days ##\nMonday", "Days\nMonday"),
        ("Title\n=====\n\nSub\n---", "Title\n\n\nSub\n"),
        ("**bold** and *it* and __b__ and _it_.", "bold and it and b and it."),
        ("***both*** **one *two* three** (*four*)", "both one two three (four)"),
        ("这是**粗体**文字", "这是粗体文字"),
        ("~~old~~ new \\*star\\*", "old new *star*"),
        ("- item\n* two\n+ three\n  - 2 eggs\n* 1 1/2 cups", "item\ntwo\nthree\n  2 eggs\n1 1/2 cups"),
        ("- [ ] milk\n- [x] bread", "milk\nbread"),
        ("> quote\n> > deeper\n>\n> end", "quote\ndeeper\n\nend"),
        ("`code` and `` a`b ``", "code and a`b"),
        ("```python\nprint()\n```", "\nprint()\n"),
        ("a\n\n* * *\n\nb", "a\n\n\n\nb"),
        ("[text](https://example.org/a) and [one](b_(c).md 'Title')", "text and one"),
        ("[![build](a.svg)](https://example.org) ![a cat](cat.png)", "build a cat"),
        ("See [the docs][1].[^2]\n\n[1]: https://example.org", "See the docs.\n\n"),
        ("| Name | Age |\n|:-----|----:|\n| Ann  | *3* |", "Name, Age\n\nAnn, 3"),
        ('<p align="left">A<br/>b <b>c</b> &amp; &lt;3</p><!-- d -->', "\nA\nb c & <3\n\n"),
    ],
)
def test_signs_of_markup_are_left_out(written, read):
    assert plain_text(written) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Visit https://example.org/a.", "Visit example dot org slash a."),
        ("(http://www.example.org/a/?b=c&d=1#e)", "(example dot org slash a)"),
        ("Is it https://example.org? Or www.example.org/?", "Is it example dot org? Or example dot org?"),
        ("<https://example.org/a_b/c-d>", "example dot org slash a underscore b slash c-d"),
        ("Ask <ann.lee@example.org>, or mailto:a_b+c@x.co.uk.",
         "Ask ann dot lee at example dot org, or a underscore b plus c at x dot co dot uk."),
        ("example.org/b, main.py", "example dot org slash b, main dot py"),
        ("ftp://x.org:21/", "x dot org colon 21"),
    ],
)  # fmt: skip
def test_an_address_is_spoken_from_its_host_to_its_path(written, read):
    assert plain_text(written) == read


def test_in_another_language_signs_of_an_address_stay():
    assert plain_text("**Siehe** https://www.example.org/a?b=1 oder a@b.de.", is_english=False) == (
        "Siehe example.org/a oder a@b.de."
    )


@pytest.mark.parametrize(
    "text",
    [
        "3 * 4 = 12, 2*3*4, 2**3**4", "#1", "- 5", "- 5\n- 6", "+5", "snake_case_name", "2 > 1", "a_b", "C#", "100 - 5",
        "5 < 6 and 7 > 6", "a<b and c>d", "a * b * c", "*note", "footnote* or *", "f[i](y)", "text [1] and [2]",
        "well-known, and/or, e.g. this, i.e.that, Ph.D., U.S.A.", "3.5kg, 10.30pm, 1.2.3", "wait...what", "AT&T; R&D",
        "Hello <name> <|im_end|>", "_", "**", "---", "```", "https://", "[a] (b)", "~50 or ~60", " two  spaces ",
    ],
)  # fmt: skip
def test_plain_text_stays_as_it_is(text):
    assert plain_text(text) == text


@given(text=st.text("ab1 \n\t#*_`~[]()<>!|-=+.:/@\\&;xX", max_size=60))
def test_no_text_is_too_odd_and_none_becomes_empty(text):
    assert bool(plain_text(text).strip()) == bool(text.strip())


@pytest.mark.parametrize(
    "piece", ["*a ", "_a ", "[", "![", "`", "<!--", "|-", "> ", "# ", "a.", "a/", "/(", "- ", "<b a=b "]
)
def test_a_long_text_of_signs_is_read_within_the_time_limit_of_a_test(piece):
    assert plain_text(piece * 5000 + "x").endswith("x")
