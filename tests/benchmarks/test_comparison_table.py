"""The tests of the comparison are held out, and its table has every run once."""

import sys

import pytest
from checkout import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import learning_curves
from comparison import data, table


def test_tests_are_held_out_and_ask_for_known_facts_in_known_words():
    spoken = {job.text for job in (*data.question_jobs(), *data.aloud_jobs())}
    trained = spoken - data.held_out_questions()
    questions, sentences = data.test_question_jobs(), data.test_aloud_jobs()
    assert len(questions) == data.TEST_QUESTIONS and len(sentences) == data.TEST_SENTENCES
    assert not trained & {job.text for job in (*questions, *sentences)}
    asked = {item.question: item.answer for item in data.benchmark_items()}
    known = {asked[text] for text in trained if text in asked}
    assert {job.fields["answer"] for job in questions} <= known
    assert known <= trained  # every answer has its audio
    splits = [job.split for job in questions]
    assert splits.count("unseen_template") == 40 and splits.count("unseen_sentence") == 80
    assert data.question_jobs(50) == data.question_jobs(80)[:50]


def run_result(system: str, seed: int, wer: float, **more) -> dict:
    measured = dict.fromkeys(table.COLUMNS, 0.5) | {"tts_wer": wer, "forwards": 12.25}
    return {
        "system": system,
        "seed": seed,
        "measured": measured,
        "training": {"cpu_seconds": 90, "tokens": 1234},
        **more,
    }


def test_the_table_shows_mean_and_spread_over_the_seeds(tmp_path):
    sampled = run_result("ar", 0, 0.25)["measured"]
    for result in (run_result("ttt", 1, 0.3), run_result("ar", 0, 0.5, sampled=sampled), run_result("ttt", 0, 0.1)):
        table.write_json(tmp_path / "runs" / f"{result['system']}-{result['seed']}" / table.RESULT, result)
    results = table.collect(tmp_path)
    assert [(r["system"], r["seed"]) for r in results] == [("ar", 0), ("ttt", 0), ("ttt", 1)]
    lines = table.markdown_table(results, {"tts_wer": 0.025, "unrelated": {"tts_wer": 0.75}}).splitlines()
    floors = ["the codec alone", "the codec, unrelated sentences"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    column = cells[0].index("TTS WER")
    assert [row[0] for row in cells[2:]] == ["AR", table.OTHER_ROWS["sampled"], "TtT", *floors]
    assert [row[column] for row in cells[2:]] == ["0.500", "0.250", "0.200 ± 0.141", "0.025", "0.750"]
    assert cells[4][1] == "2" and cells[4][cells[0].index("training, CPU min")] == "1.5 ± 0.0"
    assert len({len(row) for row in cells}) == 1


def test_systems_are_compared_on_the_seeds_that_both_have():
    sampled = run_result("ar", 0, 0.25)["measured"]
    results = [run_result("ar", 0, 0.5, sampled=sampled), run_result("ttt", 0, 0.1), run_result("ttt", 1, 0.3)]
    results += [run_result("ttt-block", seed, wer) for seed, wer in ((0, 0.2), (1, 0.25), (2, 0.9))]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.paired_table(results).splitlines()]
    column = lines[0].index("TTS WER")
    assert [(row[0], row[1], row[column]) for row in lines[2:]] == [
        ("AR", "1", "+0.400"),
        ("TtT, block-causal", "2", "+0.025 (-0.050 to +0.100)"),
        (table.OTHER_ROWS["sampled"], "1", "+0.150"),
    ]


def test_spans_in_blocks_of_8_are_compared_with_ttt_decoded_in_blocks_of_8_too():
    short = run_result("ttt", 0, 0.3)["measured"]
    results = [run_result("ttt", 0, 0.1, blocks_of_8=short), run_result("ttt-block-8", 0, 0.2)]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.paired_table(results).splitlines()]
    column = lines[0].index("TTS WER")
    assert [(row[0], row[column]) for row in lines[2:]] == [
        ("TtT, block-causal, blocks of 8", "+0.100"),
        ("TtT, in blocks of 8", "+0.200"),
        ("TtT, block-causal, blocks of 8, minus TtT, in blocks of 8", "-0.100"),
    ]


def test_a_collected_file_never_loses_a_run(tmp_path):
    path = tmp_path / "all.json"
    assert table.merge([], None, path) == {"floor": None, "runs": []}
    table.write_json(path, {"floor": {"tts_wer": 0.1}, "runs": [run_result("ar", 1, 0.3), run_result("ttt", 0, 0.3)]})
    merged = table.merge([run_result("ttt", 0, 0.2), run_result("ar", 0, 0.4)], None, path)
    assert [(r["system"], r["seed"], r["measured"]["tts_wer"]) for r in merged["runs"]] == [
        ("ar", 0, 0.4),
        ("ar", 1, 0.3),
        ("ttt", 0, 0.2),
    ]
    assert merged["floor"] == {"tts_wer": 0.1}


def test_results_of_fewer_items_or_of_another_voice_do_not_stand_beside_others(tmp_path):
    result = run_result("ttt", 0, 0.3)
    result["training"]["options"] = {"steps": 5}
    table.check_options(result | {"codec": "a"}, {"steps": 5, "limit": None, "codec": "a"}, tmp_path)
    with pytest.raises(ValueError, match=r"other options \(limit=None\)"):
        table.check_options(result, {"steps": 5, "limit": 3}, tmp_path)
    with pytest.raises(ValueError, match=r"other options \(codec=a\)"):
        table.check_options(result | {"codec": "a"}, {"steps": 5, "codec": "b"}, tmp_path)


def test_results_that_are_collected_already_are_not_made_again(tmp_path):
    options = {"steps": 5}
    results = [run_result("ttt", seed, 0.3) for seed in (0, 1)]
    for result in results:
        result["training"]["options"] = options
    table.write_json(tmp_path / "all.json", {"floor": None, "runs": results})
    own = results[0] | {"measured": results[0]["measured"] | {"tts_wer": 0.1}}
    table.write_json(tmp_path / "work" / "runs" / "ttt-0" / table.RESULT, own)  # what is there stays
    table.restore(tmp_path / "all.json", tmp_path / "work", "runs", options)
    assert [r["measured"]["tts_wer"] for r in table.collect(tmp_path / "work")] == [0.1, 0.3]
    table.restore(tmp_path / "missing.json", tmp_path / "work", "runs", options)
    with pytest.raises(ValueError, match="other options \\(steps=5\\)"):
        table.restore(tmp_path / "all.json", tmp_path / "work", "runs", {"steps": 6})


def test_curves_have_the_mean_of_the_seeds_and_the_time_of_the_longest_runs(tmp_path):
    def run(system, seed, steps, seconds, wer):
        result = run_result(system, seed, wer)
        result["training"] |= {"steps": steps, "cpu_seconds": seconds}
        return result | {"measured": result["measured"] | {"tts_keywords": 0.25}}

    results = [run("ar", 0, 100, 6000, 0.5), run("ar", 1, 100, 9000, 0.7), run("ar", 0, 200, 240, 0.3)]
    results += [run("ttt", 0, 100, 180, 0.9), run("nar", 0, 100, 60, 0.9)]
    del results[2]["measured"]["given_text_wer"]
    found = learning_curves.points(results, ["ttt", "ttt-block", "ar"])
    assert [(point.system, point.updates, point.minutes) for point in found] == [
        ("TtT", 100, 3.0),
        ("AR", 100, 2.0),
        ("AR", 200, 4.0),
    ]
    lines = learning_curves.table(found, learning_curves.READING).splitlines()
    head, _, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
    wer, given = (head.index(name) for name in ("TTS WER", "TTS WER, text given"))
    assert [row[wer] for row in rows] == ["0.900", "0.600 ± 0.141", "0.300"]
    assert [row[given] for row in rows] == ["0.500", "0.500 ± 0.000", ""]
    results[0]["sampled"] = results[0]["measured"] | {"tts_wer": 0.8}
    (sampled,) = learning_curves.points(results, ["ar"], ["sampled", "one_step"])[2:]
    assert (sampled.system, sampled.updates) == ("AR, sampled (top-k 10, top-p 0.95)", 100)
    assert sampled.values("tts_wer") == [0.8]
    learning_curves.plot(found, tmp_path / "curves.svg")
    assert "CPU minutes of training" in (tmp_path / "curves.svg").read_text()
