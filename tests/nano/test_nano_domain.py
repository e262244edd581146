"""The spoken domain of nano: right answers, and held-out questions that no training sentence contains."""

import random
import re
from collections import Counter, defaultdict

import pytest

from finetune.nano.domain import questions as domain
from finetune.nano.domain.follow_ups import follow_ups
from finetune.nano.domain.outside import OUTSIDE_ANSWER
from finetune.nano.domain.questions import drills, items, keywords, normalise, text_corpus, wrapped
from finetune.nano.domain.spoken_numbers import number_words

ALL = items()
TRAIN = [item for item in ALL if item.split == "train"]
HELD_OUT = [item for item in ALL if item.split != "train"]
VALUES = {number_words(n): n for n in range(1000)}


def test_numbers_are_spoken_without_hyphens():
    assert [number_words(n) for n in (0, 12, 20, 27, 99, 100)] == [
        "zero",
        "twelve",
        "twenty",
        "twenty seven",
        "ninety nine",
        "one hundred",
    ]
    assert [number_words(n) for n in (101, 120, 999)] == [
        "one hundred one",
        "one hundred twenty",
        "nine hundred ninety nine",
    ]
    with pytest.raises(ValueError, match="1000"):
        number_words(1000)


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


def test_every_product_comparison_count_and_hour_is_right():
    checked = Counter()
    for item in ALL:
        said = normalise(item.answer)
        if item.kind == "product":
            a, b, c = (VALUES[word] for word in re.fullmatch(r"(.+) times (.+) is (.+)", said).groups())
            right = a * b == c
        elif item.kind == "compare":
            a, quality, b = re.fullmatch(r"(.+) is (bigger|smaller) than (.+)", said).groups()
            right = quality in item.question and (VALUES[a] > VALUES[b]) == (quality == "bigger")
        elif item.kind == "count":
            counted = [VALUES[word] for word in said.split()]
            asked = [
                VALUES[word] for word in re.fullmatch(r".* from (\w+) to (\w+)", normalise(item.question)).groups()
            ]
            step = 1 if asked[0] < asked[1] else -1
            right = counted == list(range(asked[0], asked[1] + step, step))
        elif item.kind == "time":
            hours, side, here, there = re.fullmatch(
                r"(\w+) hours? (after|before) (\w+) o'clock it is (\w+) o'clock", said
            ).groups()
            step = VALUES[hours] if side == "after" else -VALUES[hours]
            right = (VALUES[here] + step - VALUES[there]) % 12 == 0 and 1 <= VALUES[there] <= 12
        else:
            continue
        assert right, item
        checked[item.kind] += 1
    assert min(checked.values()) > 500 and len(checked) == 4


def test_every_unit_is_converted_by_its_own_factor():
    factors = {
        ("minute", "seconds"): 60,
        ("week", "days"): 7,
        ("foot", "inches"): 12,
        ("feet", "inches"): 12,
        ("dollars", "cents"): 100,
    }
    checked = 0
    for item in ALL:
        if item.kind == "unit":
            amount, many, parts = re.fullmatch(r"(.+) (?:is|are) (.+) (\w+)", normalise(item.answer)).groups()
            count, unit = amount.rsplit(" ", 1)
            factor = VALUES[many] / VALUES[count]
            assert factor == int(factor)
            assert factors.get((unit, parts), factor) == factor
            checked += 1
    assert checked > 500


def test_a_word_is_spelled_with_its_letters_and_rhymes_with_another():
    for item in ALL:
        if item.kind == "spelling":
            word, letters = re.fullmatch(r"(\w+) is spelled (.+)\.", item.answer).groups()
            assert letters.split(", ") == list(word.upper()) and word.lower() in item.question.lower()
        if item.kind == "rhyme":
            rhyme, asked = re.fullmatch(r"(\w+) rhymes with (\w+)\.", item.answer).groups()
            assert rhyme.lower() != asked and asked in item.question


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
    assert all(
        "unseen_sentence" in splits[kind]
        for kind in ("colour", "day", "name", "product", "time", "unit", "capital", "rhyme")
    )
    assert {split for found in splits.values() for split in found} == set(domain.SPLITS)


def test_answers_are_short_sentences():
    for item in ALL:
        assert 2 <= len(item.answer.split()) <= (13 if item.kind in ("joke", "talk") else 10)
        assert re.fullmatch(r"[A-Z][A-Za-z,' ]*[.?]([A-Za-z, ]*[.])?", item.answer)
        assert re.fullmatch(r"[A-Z][A-Za-z,' ]*[.?]", item.question)


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
    corpora = pytest.importorskip("finetune.nano.speech.corpora")
    jobs = corpora.question_jobs(9_000)
    facts = Counter(job.fields["answer"] for job in jobs if job.fields["kind"] == "sum")
    assert len(facts) == len({item.answer for item in TRAIN if item.kind == "sum"})
    assert max(facts.values()) - min(facts.values()) <= 2


def test_more_spoken_questions_begin_with_the_same_ones_and_none_is_said_twice():
    corpora = pytest.importorskip("finetune.nano.speech.corpora")
    jobs = corpora.question_jobs(3_000)
    assert jobs[:1_000] == corpora.question_jobs(1_000)
    assert len({(job.text, job.voice, job.stretch) for job in jobs}) == 3_000


def test_test_utterances_are_new_recordings_and_only_seen_ones_are_training_texts():
    corpora = pytest.importorskip("finetune.nano.speech.corpora")
    jobs = corpora.test_question_jobs()
    trained = {item.question for item in TRAIN}
    assert Counter(job.split for job in jobs) == corpora.TEST_COUNTS
    assert all((job.text in trained) == (job.split == "train") for job in jobs)
    assert not {job.stretch for job in jobs} & set(corpora.QUESTION_STRETCHES)


def test_answers_are_spoken_once_each_and_those_of_unseen_facts_apart():
    corpora = pytest.importorskip("finetune.nano.speech.corpora")
    trained, held_out = corpora.answer_jobs(held_out=False), corpora.answer_jobs(held_out=True)
    assert sorted(job.text for job in trained) == sorted({item.answer for item in TRAIN} | {OUTSIDE_ANSWER})
    assert {job.text for job in held_out} == {item.answer for item in ALL if item.split == "unseen_fact"}
    assert {job.split for job in trained} == {"train"} and {job.split for job in held_out} == {"unseen_fact"}
    assert {(job.voice, job.stretch) for job in trained + held_out} == {("slt", corpora.FLITE_STRETCH)}


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


def test_more_than_forty_thousand_questions_differ_in_their_words():
    from finetune.nano.speech.corpora import CORPORA

    questions, wrapped_ones, second = (
        make(count) for make, count in (CORPORA[n] for n in ("questions", "wrapped", "follow-ups"))
    )
    texts = {job.text for job in questions + wrapped_ones}
    dialogues = {(job.fields["first_question"], job.text) for job in second}
    assert len(texts) + len(dialogues) > 42_000
    assert {job.split for job in questions + wrapped_ones + second} == {"train"}


def test_larger_numbers_are_written_about_and_what_is_held_out_stays_so():
    more = items(largest_number=domain.LARGEST_WRITTEN_NUMBER)
    held_out = {item.answer for item in more if item.split == "unseen_fact"}
    assert {item.answer for item in ALL if item.split == "unseen_fact"} < held_out
    trained = {item.answer for item in more if item.split == "train"}
    assert {item.answer for item in TRAIN} < trained and not trained & held_out
    assert "Forty minus thirty is ten." in trained | held_out


def test_second_turns_follow_from_the_first_and_are_facts_that_are_trained():
    trained = {item.answer for item in TRAIN}
    found = follow_ups(1500)
    assert found[:200] == follow_ups(200) and len(set(found)) == 1500
    kinds = set()
    for turn in found:
        assert turn.first in ALL and turn.first.split == "train" and turn.answer in trained and turn.split == "train"
        kinds.add(turn.first.kind)
        if turn.first.kind in ("sum", "difference"):  # it goes on from the first result
            assert normalise(turn.answer).startswith(normalise(turn.first.answer).split(" is ")[1] + " ")
        elif turn.first.kind in ("day", "month", "number", "letter"):
            assert turn.first.answer.rstrip(".").split(" comes ")[1] in turn.answer.split(" comes ")[0]
        else:
            assert turn.answer != turn.first.answer
    assert {"sum", "day", "colour", "capital", "spelling"} <= kinds
    with pytest.raises(ValueError, match="unseen_fact"):
        follow_ups(1, "unseen_fact")


def test_the_last_wording_of_a_second_question_is_never_trained_on():
    trained = {re.sub(r"[^a-z ]", "", turn.question.lower()) for turn in follow_ups(3000)}
    held_out = {re.sub(r"[^a-z ]", "", turn.question.lower()) for turn in follow_ups(300, "unseen_template")}
    assert not trained & held_out


def test_general_phrases_of_the_test_are_never_spoken_in_training():
    corpora = pytest.importorskip("finetune.nano.speech.corpora")
    try:
        corpora.wordnet_phrases()
    except FileNotFoundError:
        pytest.skip("WordNet is not installed")
    trained = {job.text for make in (corpora.phrase_jobs, corpora.dictation_jobs) for job in make(3000)}
    trained |= {job.fields["answer"] for job in corpora.repeat_jobs(1000)}
    held_out = {job.text for make in (corpora.phrase_jobs, corpora.dictation_jobs) for job in make(100, "test")}
    held_out |= {job.fields["answer"] for job in corpora.repeat_jobs(50, "test")}
    assert len(held_out) > 150 and not trained & held_out
    asked = corpora.repeat_jobs(20)
    assert all(normalise(job.text).endswith(normalise(job.fields["answer"])) for job in asked)
