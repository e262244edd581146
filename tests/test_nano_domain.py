"""The spoken domain of nano: right answers, and held-out questions that no training sentence contains."""

import random
import re
from collections import Counter, defaultdict

import pytest

from finetune.nano import domain
from finetune.nano.domain import drills, items, keywords, normalise, number_words, text_corpus, wrapped

ALL = items()
TRAIN = [item for item in ALL if item.split == "train"]
HELD_OUT = [item for item in ALL if item.split != "train"]
VALUES = {number_words(n): n for n in range(101)}


def test_numbers_are_spoken_without_hyphens():
    assert [number_words(n) for n in (0, 12, 20, 27, 99, 100)] == [
        "zero",
        "twelve",
        "twenty",
        "twenty seven",
        "ninety nine",
        "one hundred",
    ]
    with pytest.raises(ValueError, match="101"):
        number_words(101)


def test_every_sum_and_difference_is_right():
    checked = 0
    for item in ALL:
        if item.kind in ("sum", "difference"):
            left, sign, right, result = re.fullmatch(r"(.+) (plus|minus) (.+) is (.+)", normalise(item.answer)).groups()
            a, b, c = VALUES[left], VALUES[right], VALUES[result]
            assert (a + b if sign == "plus" else a - b) == c
            asked = normalise(item.question)
            assert left in asked and right in asked
            checked += 1
    assert checked > 5_000


def test_every_neighbour_of_a_number_is_right():
    for item in ALL:
        if item.kind == "number":
            side, here, there = re.fullmatch(r"(after|before) (.+) comes (.+)", normalise(item.answer)).groups()
            assert VALUES[there] - VALUES[here] == (1 if side == "after" else -1)
            assert f"{side} {here}" in normalise(item.question)


def test_days_and_months_follow_the_calendar():
    answers = {item.answer for item in ALL}
    assert {
        "After Sunday comes Monday.",
        "Before Monday comes Sunday.",
        "If today is Friday, tomorrow is Saturday.",
        "If today is Monday, yesterday was Sunday.",
        "Two days after Saturday comes Monday.",
        "After December comes January.",
        "Before March comes February.",
    } <= answers


def test_no_training_question_equals_a_held_out_one():
    assert not {normalise(i.question) for i in TRAIN} & {normalise(i.question) for i in HELD_OUT}


def test_no_training_sentence_contains_the_answer_of_an_unseen_fact():
    corpus = {normalise(sentence) for sentence in text_corpus()}
    unseen = [normalise(item.answer) for item in ALL if item.split == "unseen_fact"]
    assert len(set(unseen)) > 60
    assert not corpus & set(unseen)


def test_no_training_text_holds_a_held_out_question():
    corpus = {normalise(sentence) for sentence in text_corpus()}
    assert not corpus & {normalise(item.question) for item in HELD_OUT}


def test_a_question_has_one_answer():
    answers = defaultdict(set)
    for item in ALL:
        answers[normalise(item.question)].add(item.answer)
    assert all(len(found) == 1 for found in answers.values())
    assert len(answers) == len(ALL)


def test_unseen_sentences_and_templates_ask_for_facts_that_are_trained():
    trained = {item.answer for item in TRAIN}
    assert all(item.answer in trained for item in HELD_OUT if item.split != "unseen_fact")


def test_held_out_words_are_all_known_from_training():
    known = {word for sentence in text_corpus() for word in normalise(sentence).split()}
    assert all(set(normalise(item.question + " " + item.answer).split()) <= known for item in HELD_OUT)


def test_about_a_tenth_of_the_operand_pairs_is_held_out():
    for kind, pairs in (("sum", 21 * 21), ("difference", 21 * 22 // 2)):
        unseen = {item.answer for item in ALL if item.kind == kind and item.split == "unseen_fact"}
        assert 0.07 < len(unseen) / pairs < 0.13


def test_every_kind_has_an_unseen_template_and_every_closed_kind_an_unseen_sentence():
    splits = defaultdict(set)
    for item in ALL:
        splits[item.kind].add(item.split)
    assert all("unseen_template" in found for found in splits.values())
    assert all("unseen_sentence" in splits[kind] for kind in ("colour", "day", "month", "mix", "opposite", "name"))
    assert {split for found in splits.values() for split in found} == set(domain.SPLITS)


def test_answers_are_short_sentences():
    for item in ALL:
        assert 2 <= len(item.answer.split()) <= 9
        assert re.fullmatch(r"[A-Z][A-Za-z, ]*[.?]", item.answer)
        assert re.fullmatch(r"[A-Z][A-Za-z, ]*[.?]", item.question)


def test_an_opposite_goes_both_ways():
    opposite = dict(
        re.fullmatch(r"The opposite of (\w+) is (\w+)\.", item.answer).groups()
        for item in ALL
        if item.kind == "opposite"
    )
    assert len(opposite) >= 80
    assert all(opposite[opposite[word]] == word for word in opposite)


def test_the_same_seed_gives_the_same_items_and_another_seed_holds_out_others():
    assert items(3) == items(3)
    first, second = ({i.answer for i in items(seed) if i.split == "unseen_fact"} for seed in (3, 4))
    assert len(first & second) < len(first) / 2
    assert {i.answer for i in items(3)} == {i.answer for i in items(4)}


def test_keywords_are_whole_numbers_and_content_words():
    assert keywords("Twenty seven plus one is twenty eight.") == ["twenty seven", "plus", "one", "twenty eight"]
    assert keywords("The opposite of hot is cold.") == ["opposite", "hot", "cold"]
    assert keywords("one hundred") == ["one hundred"]


def test_speaking_order_asks_every_fact_of_a_kind_before_asking_one_again():
    synthesise = pytest.importorskip("finetune.nano.synthesise")
    jobs = synthesise.question_jobs(9_000)
    facts = Counter(job.fields["answer"] for job in jobs if job.fields["kind"] == "sum")
    assert len(facts) == len({item.answer for item in TRAIN if item.kind == "sum"})
    assert max(facts.values()) - min(facts.values()) <= 2


def test_more_spoken_questions_begin_with_the_same_ones_and_none_is_said_twice():
    synthesise = pytest.importorskip("finetune.nano.synthesise")
    jobs = synthesise.question_jobs(3_000)
    assert jobs[:1_000] == synthesise.question_jobs(1_000)
    assert len({(job.text, job.voice, job.stretch) for job in jobs}) == 3_000


def test_test_utterances_are_new_sounds_and_only_seen_ones_are_training_texts():
    synthesise = pytest.importorskip("finetune.nano.synthesise")
    jobs = synthesise.test_question_jobs()
    trained = {item.question for item in TRAIN}
    assert Counter(job.split for job in jobs) == synthesise.TEST_COUNTS
    assert all((job.text in trained) == (job.split == "train") for job in jobs)
    assert not {job.stretch for job in jobs} & set(synthesise.QUESTION_STRETCHES)


def test_answers_are_spoken_once_each_and_those_of_unseen_facts_apart():
    synthesise = pytest.importorskip("finetune.nano.synthesise")
    trained, held_out = synthesise.answer_jobs(held_out=False), synthesise.answer_jobs(held_out=True)
    assert sorted(job.text for job in trained) == sorted({item.answer for item in TRAIN})
    assert {job.text for job in held_out} == {item.answer for item in ALL if item.split == "unseen_fact"}
    assert {job.split for job in trained} == {"train"} and {job.split for job in held_out} == {"unseen_fact"}
    assert {(job.voice, job.stretch) for job in trained + held_out} == {("slt", synthesise.ANSWER_STRETCH)}


def test_drills_are_distinct_known_words_and_keep_unseen_facts_apart():
    drilled = drills(400)
    assert len(set(drilled)) == 400 and drilled[:100] == drills(100)
    known = {word for text in text_corpus() for word in normalise(text).split()}
    numbers = {number_words(n) for n in range(20)} | {"twenty", "thirty", "forty"}
    unseen = [set(normalise(i.question).split()) & numbers for i in items() if i.split == "unseen_fact"]
    pairs = [pair for pair in unseen if len(pair) == 2]
    assert len(pairs) > 100
    for text in drilled:
        words = normalise(text).split()
        assert 3 <= len(words) <= 12 and known.issuperset(words)
        assert not any(pair <= set(words) for pair in pairs)
    assert sum(bool(numbers & set(normalise(text).split())) for text in drilled) > 200


def test_a_wrapped_question_still_holds_the_question():
    rng = random.Random(0)
    texts = {wrapped("What is two plus two?", rng) for _ in range(1000)}
    assert len(texts) == len(domain.WRAPPERS)
    assert all(text.endswith(" what is two plus two?") and text[0].isupper() for text in texts)
    assert not texts & {item.question for item in ALL}


def test_larger_numbers_are_written_about_and_what_is_held_out_stays_so():
    more = items(largest_number=domain.LARGEST_WRITTEN_NUMBER)
    held_out = {item.answer for item in more if item.split == "unseen_fact"}
    assert {item.answer for item in ALL if item.split == "unseen_fact"} < held_out
    trained = {item.answer for item in more if item.split == "train"}
    assert {item.answer for item in TRAIN} < trained and not trained & held_out
    assert "Forty minus thirty is ten." in trained | held_out
