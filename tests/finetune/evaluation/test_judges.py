"""
Judges of speech on real software: transformers' recognition pipeline over checkpoints in their real layout, and DNSMOS.
"""

import json
import sys

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from finetune.evaluation.judges import PipelineJudge, make_judge, mean_opinion, speaker_similarity
from modeling_ttt import nano_checkpoint
from processing_ttt.resampling_ttt import resample

RATE = 8000  # not the recogniser's own: judges resample


@pytest.fixture(scope="module")
def waveforms():
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32) for seconds in (0.4, 0.7, 0.5)]


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory):
    """Random weights, so that its transcripts are some letters."""
    folder = tmp_path_factory.mktemp("judges") / "wav2vec2"
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh"]
    (folder / "letters.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16_000, do_normalize=True, return_attention_mask=True),
        Wav2Vec2CTCTokenizer(str(folder / "letters.json")),
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Wav2Vec2ForCTC(
            Wav2Vec2Config(
                vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=16,
                conv_dim=[8, 8], conv_stride=[10, 16], conv_kernel=[10, 16], num_feat_extract_layers=2,
                num_conv_pos_embeddings=4,
                num_conv_pos_embedding_groups=2, feat_extract_norm="layer", initializer_range=1.0,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def test_a_ctc_recogniser_writes_what_its_best_path_spells(wav2vec2, waveforms):
    transcripts = make_judge(str(wav2vec2)).transcribe(waveforms, RATE, "it")
    processor, model = Wav2Vec2Processor.from_pretrained(wav2vec2), Wav2Vec2ForCTC.from_pretrained(wav2vec2).eval()
    letters = {index: letter for letter, index in processor.tokenizer.get_vocab().items()}
    for waveform, text in zip(waveforms, transcripts, strict=True):
        samples = torch.from_numpy(resample(waveform, RATE, 16_000))
        normal = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        with torch.no_grad():
            path = model(normal[None]).logits[0].argmax(-1).unique_consecutive().tolist()
        spelt = "".join(letters[index] for index in path if letters[index] != "<pad>")
        assert text == " ".join(spelt.replace("|", " ").split())
    assert len(set(transcripts)) == 3 and all(transcripts)
    assert make_judge(str(wav2vec2)).supports("it"), "a CTC model does not say what it was trained on"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A multilingual Whisper of one layer."""
    folder = tmp_path_factory.mktemp("judges") / "whisper"
    letters = {letter: index for index, letter in enumerate("abcdefghijklmnop")}
    tokenizer = WhisperTokenizer(vocab=letters | {"<|endoftext|>": 16}, merges=[], pad_token="<|endoftext|>")
    special = ["<|startoftranscript|>", "<|en|>", "<|it|>", "<|transcribe|>", "<|translate|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens([f"<|{index * 0.02:.2f}|>" for index in range(1501)])
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ["<|endoftext|>", *special]}
    WhisperProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=len(tokenizer), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_target_positions=32,
                init_std=1.0,
                decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=16, pad_token_id=16, bos_token_id=16,
            )
        )  # fmt: skip
    model.generation_config = GenerationConfig(
        is_multilingual=True, lang_to_id={"<|en|>": ids["<|en|>"], "<|it|>": ids["<|it|>"]}, max_length=20,
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=16, pad_token_id=16, bos_token_id=16,
        prev_sot_token_id=16,
        suppress_tokens=[], begin_suppress_tokens=[16], max_initial_timestamp_index=50, return_timestamps=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def test_whisper_gets_the_language(whisper, waveforms, monkeypatch):
    judge = PipelineJudge(str(whisper), batch_size=2)
    asked = []
    generate = judge.recogniser.model.generate
    monkeypatch.setattr(
        judge.recogniser.model, "generate", lambda *args, **kwargs: asked.append(kwargs) or generate(*args, **kwargs)
    )
    transcripts = judge.transcribe(waveforms, RATE, "it-IT")
    assert len(transcripts) == 3 and any(transcripts)
    judge.transcribe(waveforms[:1], RATE, "it_IT")
    assert {(kwargs["language"], kwargs["task"]) for kwargs in asked} == {("it", "transcribe")}
    assert judge.supports("it-IT") and judge.supports("it_IT") and judge.supports(None) and not judge.supports("tlh")
    with pytest.raises(ValueError, match=r"[Uu]nsupported language"):
        judge.transcribe(waveforms, RATE, "tlh")


def test_whisper_transcribes_more_than_its_window(whisper):
    long = (0.1 * np.random.default_rng(1).standard_normal(31 * RATE)).astype(np.float32)
    (transcript,) = PipelineJudge(str(whisper)).transcribe([long], RATE, "it")
    assert isinstance(transcript, str)


@pytest.mark.slow
def test_dnsmos_is_lower_for_noisy_speech():
    """The real package with its own weights, on speech in the box."""
    pytest.importorskip(
        "speechmos.dnsmos", reason="pip install speechmos onnxruntime librosa requests", exc_type=ImportError
    )
    import soundfile

    (first, *_) = sorted((nano_checkpoint() / "questions").glob("?.wav"))
    speech, rate = soundfile.read(first, dtype="float32")
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    noisy = speech + noise * np.sqrt(np.mean(speech**2))  # as loud as the speech
    clean_opinion, noisy_opinion = mean_opinion([speech], rate), mean_opinion([noisy], rate)
    assert 1 < noisy_opinion < clean_opinion - 0.5 < 5
    assert mean_opinion([speech, noisy, np.zeros(0, np.float32)], rate) == pytest.approx(
        (clean_opinion + noisy_opinion) / 2, abs=1e-3
    )
    assert mean_opinion([], rate) is None


def test_a_voice_is_like_itself_however_loud_and_less_like_another():
    """The real package with its own weights, on two voices in the box."""
    pytest.importorskip("resemblyzer", reason="pip install Resemblyzer 'setuptools<81'", exc_type=ImportError)
    import soundfile

    questions = nano_checkpoint() / "questions"
    one, other, rate = *(soundfile.read(questions / name, dtype="float32")[0] for name in ("1.wav", "2.wav")), 16_000
    assert speaker_similarity([one, one], [one, 0.1 * one], rate) == pytest.approx(1, abs=1e-3)
    assert speaker_similarity([one], [other], rate) < 0.8
    assert speaker_similarity([one, np.zeros(0, np.float32)], [one, one], rate) == pytest.approx(1, abs=1e-3)
    assert speaker_similarity([], [], rate) is None


def test_without_the_package_there_is_no_opinion_and_half_of_it_is_an_error(monkeypatch):
    waveform = [np.ones(100, np.float32)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert mean_opinion(waveform, RATE) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(ImportError, match=r"speechmos needs .*: pip install onnxruntime librosa requests"):
        mean_opinion(waveform, RATE)
