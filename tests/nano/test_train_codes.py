"""How the codes of a codec on Whisper's features are trained: to transcribe every voice, and to decode to one."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from finetune.nano.codec import train_codec, train_codes, transcriber
from finetune.nano.codec.codec_stage import Reused
from finetune.nano.codec.train_codes import CodesTraining, trainable
from finetune.nano.codec.transcriber import CHARACTERS
from finetune.nano.speech.synthesise import save_shard
from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel

SIZES = {"hidden_size": 16, "intermediate_size": 16, "vocoder_hidden_size": 16, "vocoder_intermediate_size": 16}
WHISPER = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 80}
LEVELS = [5, 4, 3]


@pytest.fixture
def start():
    torch.manual_seed(0)
    return TttCodecModel(TttCodecConfig(**SIZES, whisper_config=WHISPER)).eval()


def noise(seconds: float, seed: int) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(int(16_000 * seconds)).astype(np.float32)
    return 0.1 * samples * np.sin(np.arange(len(samples)) / 3000).astype(np.float32)


def write_corpus(folder, texts, split="train"):
    folder.mkdir()
    lines = [({"id": str(i), "text": text, "split": split}, noise(0.5 + 0.2 * i, i)) for i, text in enumerate(texts)]
    save_shard(lines, folder / "shard-00000.npy")
    return folder


# --- the codec --------------------------------------------------------------------------------------------------------


def test_the_most_probable_digits_are_chosen_with_the_gradient_of_their_probabilities():
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 5, sum(LEVELS), requires_grad=True), torch.randn(2, 5, sum(LEVELS))
    digits = train_codes.chosen_digits(logits, LEVELS)
    expected = [F.one_hot(part.argmax(-1), part.shape[-1]) for part in logits.split(LEVELS, dim=-1)]
    assert torch.equal(digits, torch.cat(expected, dim=-1).float())
    (digits * weights).sum().backward()
    found, logits.grad = logits.grad, None
    probabilities = [part.softmax(-1) for part in logits.split(LEVELS, dim=-1)]
    (torch.cat(probabilities, dim=-1) * weights).sum().backward()
    torch.testing.assert_close(found, logits.grad)


def test_what_is_decoded_while_training_are_the_codes_that_the_codec_gives(start):
    waveform = torch.from_numpy(noise(1.0, 0))[None]
    frames = torch.tensor([25])
    training = CodesTraining(trainable(start))
    digits, _ = training.digits(start.encoder.features(start.standard_level(waveform), frames), frames)
    codes = start.encode(waveform[None]).audio_codes[0]
    torch.testing.assert_close(training.latents(digits).detach(), start.quantizer.from_codes(codes), rtol=0, atol=1e-6)


def test_a_codec_without_whisper_is_no_start():
    with pytest.raises(ValueError, match="no Whisper encoder"):
        trainable(TttCodecModel(TttCodecConfig(**SIZES)))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_texts_are_transcribed_as_words_in_small_letters():
    assert transcriber.characters("It's  five o'clock, Tom - now!") == "it's five o'clock tom now"


def test_the_words_loss_is_the_probability_of_all_alignments_per_character():
    log_probabilities = torch.randn(2, 4, 1 + len(CHARACTERS), generator=torch.Generator().manual_seed(0)).log_softmax(
        -1
    )
    texts, ids = ["Ab!", "b"], [[4, 3], [4]]
    ids = [[1 + CHARACTERS.index(letter) for letter in text] for text in ("ab", "b")]
    expected = []
    for row, wanted in enumerate(ids):
        steps = 2 * (2 - row)  # the second row has one code
        paths = [
            path
            for path in itertools.product([0, *{*wanted}], repeat=steps)
            if [number for number, _ in itertools.groupby(path) if number] == wanted
        ]
        scores = torch.tensor([sum(log_probabilities[row, i, n].item() for i, n in enumerate(path)) for path in paths])
        expected.append(-scores.logsumexp(0).item() / len(wanted))
    found = transcriber.words_loss(log_probabilities, torch.tensor([2, 1]), texts)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_transcript_is_the_most_probable_path_without_blanks_and_repetitions():
    path = [0, *(1 + CHARACTERS.index(letter) for letter in "aab"), 0, 1 + CHARACTERS.index("b"), 1, 5]
    log_probabilities = F.one_hot(torch.tensor([path]), 1 + len(CHARACTERS)).float().log()
    assert transcriber.transcribed(log_probabilities, torch.tensor([3])) == ["abb"]


def test_the_voice_loss_is_that_of_the_rows_alone():
    generator = torch.Generator().manual_seed(0)
    decoded, target = (torch.randn(2, 8, 3, generator=generator) for _ in range(2))
    mask = (torch.arange(8) < torch.tensor([8, 4])[:, None]).float()[..., None]
    rows = [(decoded - target)[row, :count] for row, count in ((0, 8), (1, 4))]
    value = torch.cat(rows).abs().mean()
    change = torch.cat([row.diff(dim=0) for row in rows]).abs().mean()
    found = train_codes.voice_loss(decoded, target, mask)
    assert found.item() == pytest.approx((value + 0.5 * change).item(), rel=1e-5)


def test_gradients_pass_the_choice_of_digits_to_the_head_and_never_reach_whisper(start):
    codec = trainable(start)
    batches = train_codes.Batches(codec, {}, None)
    waveforms = [noise(0.5, i) for i in range(5)]
    batch = batches.encode(["one", "two", "three", "four", "five"], waveforms, waveforms[1:])
    training = CodesTraining(codec)
    training.loss(batch)[0].backward()
    for part in training.parts.values():
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in part.parameters())
    assert all(value.grad is None for value in codec.encoder.whisper.parameters())
    assert batch.mel.shape == (4, 13 * 4, 80)


# --- batches and stages -----------------------------------------------------------------------------------------------


def test_a_batch_is_used_as_often_as_asked_on_average():
    made = itertools.count()
    reused = Reused(lambda rng: next(made), uses=4)
    rng = np.random.default_rng(0)
    assert [reused.draw(rng) for _ in range(8)] == list(range(8))
    drawn = [reused.draw(rng) for _ in range(2000)]
    assert len(set(drawn)) == pytest.approx(500, rel=0.2)


def test_recordings_are_disturbed_and_the_voice_is_not(start, tmp_path, monkeypatch):
    monkeypatch.setattr(train_codes, "as_recorded", lambda audio, rng: np.full_like(audio, 0.5))
    speech, voice = (write_corpus(tmp_path / name, ["One.", "Two."]) for name in ("speech", "voice"))
    batches = train_codes.Batches(trainable(start), {speech: 2}, voice)
    encode, given = batches.encode, []
    monkeypatch.setattr(batches, "encode", lambda *arguments: given.append(arguments) or encode(*arguments))
    batch = batches.make(np.random.default_rng(0))
    texts, inputs, targets = given[0]
    assert len(texts) == len(inputs) == 6 and len(targets) == len(batch.mel) == 4
    assert all((audio == 0.5).all() for audio in inputs[:2])
    assert all(np.array_equal(audio, target) for audio, target in zip(inputs[2:], targets, strict=True))
    assert batch.mel.shape[1] == 2 * batch.features.shape[1] and len(batch.row_frames) == 6


def test_codes_are_trained_exported_measured_and_given_to_the_vocoder(start, tmp_path, monkeypatch):
    start.save_pretrained(tmp_path / "start")
    voice, speech = (write_corpus(tmp_path / name, ["One.", "Two.", "It's three."]) for name in ("voice", "speech"))
    dev = write_corpus(tmp_path / "dev", ["Four.", "Five."], split="dev")
    out = tmp_path / "out"
    arguments = ["--start", tmp_path / "start", "--voice", voice, "--speech", f"{speech}=2"]
    arguments += ["--dev", dev, "--out", out, "--minutes", 0.03]
    train_codes.main(map(str, arguments))
    assert json.loads((out / "dev.jsonl").read_text().splitlines()[-1])["dev"] > 0
    assert json.loads((out / "time.json").read_text())["codes"]["step"] > 0
    codec = AutoModel.from_pretrained(out / "export")
    codes = codec.encode(torch.from_numpy(noise(1.0, 0))[None, None]).audio_codes
    assert codes.shape == (1, 1, 25) and codec.config.codebook_size == 1024
    trained, before = codec.state_dict(), start.state_dict()
    assert all(torch.equal(trained[name], before[name].half().float()) for name in trained if ".whisper." in name)
    assert not torch.equal(trained["decoder.upsample.weight"], before["decoder.upsample.weight"])
    with pytest.raises(SystemExit):
        train_codes.main(map(str, arguments))
    train_codec.main(map(str, ["vocoder", "--data", voice, "--out", out, "--minutes", 0.01, "--crop", 3200]))
    assert (out / "VOCODER_READY").exists()
