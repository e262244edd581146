import argparse
import json
import math

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from transformers import AutoModel

from finetune.nano.codec import train_codec as training
from finetune.nano.codec.codec_stage import Stage, Utterances
from finetune.nano.codec.train_codec import DecodedMels, codec_batch, codec_loss, disturb, stft_loss, vocoder_loss
from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel

SIZES = {"hidden_size": 16, "intermediate_size": 16, "vocoder_hidden_size": 16, "vocoder_intermediate_size": 16}


def write_shard(folder, number, lengths, split="train"):
    """A shard of tones, each as loud as its number, as the synthesiser writes it."""
    starts = np.cumsum([0, *lengths])
    tones = [(i + 1) * 500 * np.sin(np.arange(length) * 0.05 * (i + 1)) for i, length in enumerate(lengths)]
    np.save(folder / f"shard-{number:05d}.npy", np.concatenate(tones).astype(np.int16))
    lines = [
        {"id": str(i), "start": int(start), "samples": length, "split": split}
        for i, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]
    (folder / f"shard-{number:05d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_shard(folder, 0, [9000, 4000, 12800])
    return folder


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TttCodecModel(TttCodecConfig(**SIZES))


@pytest.fixture
def options(data, tmp_path, monkeypatch):
    """Command-line options of a stage over a tiny codec that takes a second."""
    monkeypatch.setattr(training, "TttCodecConfig", lambda: TttCodecConfig(**SIZES))
    out = tmp_path / "out"
    out.mkdir()
    return argparse.Namespace(data=data, out=out, minutes=0.01, batch=2, crop=3200, learning_rate=None, seed=0)


# --- data ---------------------------------------------------------------------------------------------------------


def test_finished_shards_are_read_and_unfinished_ones_wait_for_the_next_look(data):
    utterances = Utterances(data)
    np.save(data / "shard-00001.npy", np.zeros(640, np.int16))
    utterances.rescan()
    assert len(utterances) == 3
    write_shard(data, 1, [640, 640])
    utterances.rescan()
    assert len(utterances) == 5


def test_utterances_of_other_splits_are_left_out(data):
    write_shard(data, 1, [640], split="test")
    assert len(Utterances(data)) == 3
    assert len(Utterances(data, split="test")) == 1


def test_recordings_of_a_manifest_are_utterances_at_the_rate_of_the_codec(tmp_path):
    tone = np.sin(np.arange(8000) / 8).astype(np.float32) / 2
    soundfile.write(tmp_path / "tone.wav", tone, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", tone[:4000], 8000, subtype="FLOAT")
    lines = [{"audio": name, "text": "a"} for name in ("tone.wav", "slow.wav")]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    utterances = Utterances(tmp_path / "manifest.jsonl")
    assert len(utterances) == 2
    np.testing.assert_allclose(utterances.read(0, 640)[:8000].numpy(), tone)
    assert utterances.read(0, 640).shape == (8320,) and utterances.read(1, 640).shape == (8320,)


def test_an_utterance_is_read_in_full_scale_and_padded_to_whole_codes(data):
    waveform = Utterances(data).read(1, 640)
    assert waveform.shape == (4480,)
    stored = np.load(data / "shard-00000.npy")[9000:13000]
    np.testing.assert_array_equal(waveform[:4000].numpy() * 32768, stored)
    assert (waveform[4000:] == 0).all()


def test_crops_come_at_the_standard_level_and_short_utterances_are_followed_by_silence(data, model):
    batch = codec_batch(model, Utterances(data), 16, 6400, np.random.default_rng(0))
    assert batch.shape == (16, 6400)
    whole = batch[(batch[:, -1] != 0)]
    levels = 10 * whole.square().mean(-1).log10()
    torch.testing.assert_close(levels, torch.full_like(levels, -23.0), rtol=0, atol=0.3)
    assert ((batch[:, 4480:] == 0).all(-1)).any()


def test_the_encoder_gets_a_level_within_4_db_and_noise_15_to_40_db_down_in_some_rows():
    clean = torch.sin(torch.arange(16000) * 0.3).expand(400, -1) * 0.1
    disturbed = disturb(clean, np.random.default_rng(0))
    gain = (disturbed * clean).sum(-1) / clean.square().sum(-1)
    noise = (disturbed / gain[:, None] - clean).square().mean(-1) / clean.square().mean(-1)
    assert gain.log10().abs().max() * 20 < 4.1
    noisy = noise > 1e-8
    assert noisy.float().mean().item() == pytest.approx(0.3, abs=0.07)
    assert (10 * noise[noisy].log10()).min() > -41 and (10 * noise[noisy].log10()).max() < -13


def test_decoded_frames_are_beside_the_waveform_that_they_were_made_from(data, model):
    model.requires_grad_(False)
    utterances = Utterances(data)
    mels, waveforms = DecodedMels(model, utterances).batch(8, 3200, np.random.default_rng(0))
    assert mels.shape == (8, 20, 80) and waveforms.shape == (8, 3200)
    whole = [model.standard_level(utterances.read(number, 640)[None]) for number in range(3)]
    for mel, audio in zip(mels, waveforms, strict=True):
        matches = [
            (number, start)
            for number, waveform in enumerate(whole)
            for start in range(0, waveform.shape[1] - 3200 + 1, 160)
            if torch.equal(waveform[0, start : start + 3200], audio)
        ]
        frames = [
            model.decoder(model.quantizer(model.encoder(model.log_mel(whole[n]))))[0, s // 160 :][:20]
            for n, s in matches
        ]
        assert any(torch.allclose(mel, frame, atol=2e-2) for frame in frames)


def test_of_a_large_corpus_the_vocoder_codes_only_so_many_utterances_spread_evenly(data, model, monkeypatch):
    write_shard(data, 1, [640] * 7)
    monkeypatch.setattr(training, "VOCODER_UTTERANCES", 5)
    mels = DecodedMels(model.requires_grad_(False), Utterances(data))
    mels.batch(100, 640, np.random.default_rng(0))
    assert set(mels.mels) == {0, 2, 4, 6, 8}


# --- losses -------------------------------------------------------------------------------------------------------


def test_the_codec_loss_is_l1_plus_half_the_l1_of_the_change_in_time(model):
    clean = 0.1 * torch.randn(2, 3200, generator=torch.Generator().manual_seed(0))
    loss, parts = codec_loss(model, clean, clean)
    target = model.log_mel(clean)
    decoded = model.decoder(model.quantizer(model.encoder(target)))
    value = (decoded - target).abs().mean()
    change = ((decoded[:, 1:] - decoded[:, :-1]) - (target[:, 1:] - target[:, :-1])).abs().mean()
    assert loss.item() == pytest.approx((value + 0.5 * change).item(), rel=1e-5)
    assert parts == {"mel": pytest.approx(value.item(), rel=1e-5), "change": pytest.approx(change.item(), rel=1e-5)}


def test_the_stft_loss_of_audio_ten_times_too_soft_is_its_log_and_its_share():
    audio = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    assert stft_loss(audio, audio, 512).item() == 0
    assert stft_loss(0.1 * audio, audio, 512).item() == pytest.approx(math.log(10) + 0.9, rel=1e-2)


def test_the_vocoder_loss_is_the_mean_over_the_resolutions_plus_twice_the_l1_of_the_frames(model):
    mel = torch.randn(2, 20, 80, generator=torch.Generator().manual_seed(0))
    audio = 0.1 * torch.randn(2, 3200, generator=torch.Generator().manual_seed(1))
    loss, _ = vocoder_loss(model, mel, audio, (256, 1024))
    spoken = model.vocoder(mel)
    stft = (stft_loss(spoken, audio, 256) + stft_loss(spoken, audio, 1024)) / 2
    frames = (model.log_mel(spoken) - model.log_mel(audio)).abs().mean()
    assert loss.item() == pytest.approx((stft + 2 * frames).item(), rel=1e-5)


# --- stages -------------------------------------------------------------------------------------------------------


def test_the_stages_train_export_and_say_when_they_are_done(options):
    training.train_codec(options)
    assert (options.out / "ENCODER_READY").exists()
    first = AutoModel.from_pretrained(options.out / "export")
    training.train_vocoder(options)
    assert (options.out / "VOCODER_READY").exists()
    second = AutoModel.from_pretrained(options.out / "export")
    before, after = first.state_dict(), second.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("vocoder."))
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("vocoder."))
    times = json.loads((options.out / "time.json").read_text())
    assert times["codec"]["step"] > 0 and times["vocoder"]["cpu_seconds"] >= 0.6


def test_finished_codes_are_never_trained_again(options):
    (options.out / "ENCODER_READY").touch()
    with pytest.raises(SystemExit, match="final"):
        training.train_codec(options)


def test_the_vocoder_waits_for_the_codec(options):
    with pytest.raises(SystemExit, match="codec"):
        training.train_vocoder(options)


def test_a_stage_goes_on_from_its_checkpoint(options, model):
    parts = {"decoder": model.decoder}
    stage = Stage("codec", options.out, parts, 1.0, 1e-3)
    for _ in range(3):
        clean = 0.1 * torch.randn(2, 3200)
        stage.update(*codec_loss(model, clean, clean))
    stage.save()
    weights = {key: value.detach().clone() for key, value in model.decoder.named_parameters()}
    moments = [stage.optimizer.state[value]["exp_avg"].clone() for value in stage.parameters.values()]

    other = TttCodecModel(TttCodecConfig(**SIZES))
    resumed = Stage("codec", options.out, {"decoder": other.decoder}, 1.0, 1e-3)
    assert resumed.step == 3
    assert resumed.cpu_seconds == pytest.approx(stage.cpu_seconds, abs=0.01)
    assert all(torch.equal(value, weights[key]) for key, value in other.decoder.named_parameters())
    restored = [resumed.optimizer.state[value]["exp_avg"] for value in resumed.parameters.values()]
    assert all(torch.equal(given, expected) for given, expected in zip(restored, moments, strict=True))
    resumed.update(*codec_loss(other, clean, clean))
    assert resumed.step == 4


def test_the_learning_rate_warms_up_and_falls_along_a_cosine_of_the_time_spent(options, model, monkeypatch):
    stage = Stage("codec", options.out, {"decoder": model.decoder}, 1.0, 1e-3)
    clean = 0.1 * torch.randn(1, 1280)

    def rate(step, progress):
        monkeypatch.setattr(stage, "progress", lambda: progress)
        stage.step = step
        stage.update(*codec_loss(model, clean, clean))
        return stage.optimizer.param_groups[0]["lr"]

    assert rate(0, 0.0) == pytest.approx(1e-5)
    assert rate(500, 0.5) == pytest.approx(5e-4)
    assert rate(500, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_a_checkpoint_is_safetensors_with_its_progress_inside(options, model):
    stage = Stage("vocoder", options.out, {"vocoder": model.vocoder}, 1.0, 1e-3)
    stage.update(model.vocoder(torch.zeros(1, 8, 80)).square().mean(), {"stft": 1.0})
    stage.save()
    with safe_open(options.out / "vocoder.safetensors", framework="pt") as stored:
        state = json.loads(stored.metadata()["state"])
    assert state["step"] == 1 and state["stft"] == 1.0
    assert not list(options.out.glob("*.unfinished"))
