"""Freely worded questions: every one has its fact's answer, none asks for what is held out."""

import random
import re
from collections import Counter

from finetune.nano.checkpoint.prepare import _keyboard
from finetune.nano.domain.families import first_families
from finetune.nano.domain.free_questions import OUTSIDE, as_typed, free_items, indirect_items, wordings
from finetune.nano.domain.free_templates import CARRIERS, FREE_TALK, FREE_TEMPLATES, NOUN_PHRASES, QUESTION_CARRIERS
from finetune.nano.domain.more_families import more_families
from finetune.nano.domain.outside import OUTSIDE_ANSWER, outside_questions
from finetune.nano.domain.questions import items, normalise
from finetune.nano.domain.small_talk import TALK
from finetune.nano.speech.free_corpora import free_jobs, indirect_jobs, kind_jobs, outside_jobs
from finetune.nano.speech.free_wording import free_test_questions

FREE, INDIRECT = free_items(), indirect_items()


def test_every_family_and_greeting_is_known_and_every_template_has_the_slots_of_its_family():
    families = {family.templates[0]: family for family in [*first_families(), *more_families()]}
    assert set(FREE_TEMPLATES) == set(families)
    assert set(FREE_TALK) <= set(TALK)
    assert set(NOUN_PHRASES) <= set(families)
    assert all(carrier.count("{}") == 1 for carrier in CARRIERS + QUESTION_CARRIERS)
    for first, templates in [*FREE_TEMPLATES.items(), *NOUN_PHRASES.items()]:
        slots = set(re.findall(r"{\d}", first))
        assert all(set(re.findall(r"{\d}", template)) == slots for template in templates), first
        assert len(set(templates)) == len(templates)


def test_every_wording_asks_for_something_known_with_its_slots_in_plain_signs():
    families = {family.templates[0] for family in [*first_families(), *more_families()]}
    assert set(wordings()) <= families | set(TALK) | {OUTSIDE} and families <= set(wordings())
    for asked, found in wordings().items():
        for wording in found:
            slots = re.findall(r"{\d}", wording)
            assert sorted(slots) == (sorted(set(re.findall(r"{\d}", asked))) if asked in families else []), wording
            assert re.fullmatch(r"[A-Za-z{}01 .,?!';:-]+", wording) and not re.search(r"(?<!{)[01]", wording), wording


def test_free_questions_have_training_answers_and_contain_the_fact():
    trained = {item.answer for item in items() if item.split == "train"}
    assert {item.answer for item in FREE} <= trained | {OUTSIDE_ANSWER} and {i.answer for i in INDIRECT} <= trained
    assert len({item.question for item in FREE}) == len(FREE)
    assert not {item.question for item in (*FREE, *INDIRECT)} & {item.question for item in items()}
    for item in (*FREE, *INDIRECT):
        if item.kind in ("sum", "difference", "product"):
            left, right = re.fullmatch(r"(.+) (?:plus|minus|times) (.+) is .+", normalise(item.answer)).groups()
            asked = normalise(item.question)
            assert left in asked and right in asked
    assert len({item.kind for item in FREE}) == len({item.kind for item in items()} | {OUTSIDE})


def test_a_free_question_has_one_answer():
    answers: dict[str, set[str]] = {}
    for item in [*FREE, *INDIRECT, *items()]:
        answers.setdefault(normalise(item.question), set()).add(item.answer)
    assert not {question for question, found in answers.items() if len(found) > 1}


def test_outside_questions_of_other_templates_are_held_out():
    trained, held_out = outside_questions(), outside_questions(held_out=True)
    assert not set(trained) & set(held_out) and len(trained) > 500 and len(held_out) > 100
    assert not any("{" in question for question in [*trained, *held_out])
    jobs = outside_jobs(100)
    assert {job.split for job in jobs} == {"outside"} and {job.text for job in jobs} <= set(held_out)


def test_free_jobs_extend_and_never_have_a_question_of_the_test():
    jobs = free_jobs(3000)
    assert jobs[:500] == free_jobs(500)
    assert Counter(job.fields["kind"] for job in jobs)[OUTSIDE] > 150
    assert indirect_jobs(3000)[:500] == indirect_jobs(500)
    jobs += indirect_jobs(3000)
    for kind, least in (("talk", 1500), (OUTSIDE, 1000)):
        found = kind_jobs(kind, 5000)
        assert found[:100] == kind_jobs(kind, 100) and {job.fields["kind"] for job in found} == {kind}
        assert len({job.text for job in found}) == len(found) > least
        jobs += found
    assert not {normalise(job.text) for job in jobs} & {normalise(question) for question, *_ in free_test_questions()}


def test_an_eighth_of_the_typed_questions_is_outside_the_domain_and_the_others_are_of_every_kind():
    rows = list(_keyboard())
    outside = [row for row in rows if row["answer_text"] == OUTSIDE_ANSWER]
    assert 0.11 < len(outside) / len(rows) < 0.2 and len({row["text"].lower() for row in outside}) > 500
    kinds = {item.answer: item.kind for item in items()}
    counts = Counter(kinds[row["answer_text"]] for row in rows if row["answer_text"] != OUTSIDE_ANSWER)
    assert set(counts) == set(kinds.values()) and min(counts.values()) > 0.03 * len(rows)


def test_what_is_typed_keeps_its_numbers():
    written = {as_typed("What is twenty seven plus three?", random.Random(seed)) for seed in range(300)}
    assert {"what is 27 plus 3", "What is twenty seven plus three?", "what is 27 + 3?"} <= written
    assert any(text.isupper() for text in written)
    assert all(re.search(r"27|twenty seven", text, re.IGNORECASE) for text in written)
