"""
The voice of nano's codec: critics, crops of codes, adversarial training; recorded speech as a corpus; and what measures
a codec.
"""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModel

from finetune.nano.checkpoint.ship_questions import ship
from finetune.nano.codec import train_voice
from finetune.nano.codec.codec_stage import Utterances
from finetune.nano.codec.discriminators import critic_loss, deception_loss, feature_distance, make_critics
from finetune.nano.codec.train_voice import CodedCrops, FramesTraining, VoiceTraining, draw_critics
from finetune.nano.measure.codec import read_speech
from finetune.nano.speech.recorded import at_speed, spoken_text, utterances
from finetune.nano.speech.recorded import main as write_recorded
from finetune.nano.speech.synthesise import save_shard
from modeling_ttt import nano_checkpoint
from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel

SIZES = {"hidden_size": 16, "intermediate_size": 16, "vocoder_hidden_size": 16, "vocoder_intermediate_size": 16}
WHISPER = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 80}
SIZE = 640  # samples per code


def tone(samples: int, pitch: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(samples) / 16_000)).astype(np.float32)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [
        ({"text": f"tone {number}", "voice": "a", "split": "train"}, tone(SIZE * (30 + number), 200 * (number + 1)))
        for number in range(3)
    ]
    save_shard([*lines, ({"text": "held out", "voice": "b", "split": "test"}, tone(4000))], folder / "shard-00000.npy")
    return folder


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TttCodecModel(TttCodecConfig(**SIZES)).eval().requires_grad_(False)


@pytest.fixture
def crops(data, model):
    return CodedCrops(model, [Utterances(data)])


# --- critics ------------------------------------------------------------------------------------------------------


def test_a_period_critic_sees_every_period_th_sample_in_one_column():
    critic = make_critics()["period3"]
    picture = critic.picture(torch.arange(11.0)[None])
    assert picture.shape == (1, 1, 3, 3)
    assert picture[0, 0, :, 1].tolist() == [1, 4, 7]


def test_a_resolution_critic_sees_the_log_magnitudes_of_a_tone_in_one_band():
    picture = make_critics()["resolution512"].picture(torch.from_numpy(tone(16_000, 1000.0))[None])
    assert picture.shape == (1, 1, 126, 257)
    assert (picture[0, 0, 2:-2].argmax(-1) == 32).all()  # 1000 Hz in bands of 31.25 Hz
    # half of the window's sum
    assert picture[0, 0, 2:-2, 32].mean().item() == pytest.approx(np.log(0.3 / 2 * 256), abs=0.05)


def test_the_losses_of_hand_made_judgements():
    recorded = (torch.tensor([2.0, 0.5]), [torch.tensor([1.0, 3.0]), torch.tensor([4.0])])
    decoded = (torch.tensor([-2.0, 0.0]), [torch.tensor([2.0, 3.0]), torch.tensor([2.0])])
    assert critic_loss(recorded, decoded).item() == pytest.approx(0.25 + 0.5)
    assert deception_loss(decoded).item() == pytest.approx(1.0)
    assert feature_distance(recorded, decoded).item() == pytest.approx((0.5 / 2 + 2 / 4) / 2)


def test_a_step_uses_three_critics_and_in_time_all():
    critics = make_critics()
    drawn = [draw_critics(critics, np.random.default_rng(seed)) for seed in range(40)]
    assert all(len({id(critic) for critic in chosen}) == 3 for chosen in drawn)
    assert {id(critic) for chosen in drawn for critic in chosen} == {id(critic) for critic in critics.values()}


# --- crops --------------------------------------------------------------------------------------------------------


def test_a_crop_of_codes_is_beside_its_own_waveform_and_is_marked_beyond_the_ends(crops, model):
    rows, waveforms = crops.batch(12, 25, np.random.default_rng(0))
    assert rows.shape == (12, 12 + 25 + model.config.decode_lookahead) and waveforms.shape == (12, 25 * SIZE)
    wholes = [crops.read(0, number) for number in range(3)]
    for row, audio in zip(rows, waveforms, strict=True):
        places = [
            (codes, start)
            for waveform, codes in wholes
            for start in range(len(codes) - 24)
            if torch.equal(waveform[start * SIZE : (start + 25) * SIZE], audio)
        ]
        assert any(torch.equal(codes[start : start + 25], row[12:37]) for codes, start in places)
    assert (rows[:, 0] == -1).any() and (rows[:, 12:37] >= 0).all()


def test_a_crop_is_decoded_as_in_its_utterance_where_all_that_it_remembers_is_given(crops, model):
    crops.before = model.config.decode_context
    _, codes = crops.read(0, 2)
    whole = model.decode(codes[None, None]).audio_values[0, 0]
    rows = torch.nn.functional.pad(codes, (crops.before, crops.after), value=-1)[None]
    mel, audio = crops.decode(rows[:, : crops.before + 25 + crops.after])
    assert mel.shape == (1, 100, 80)
    torch.testing.assert_close(audio[0].clamp(-1, 1), whole[: 25 * SIZE], atol=1e-5, rtol=0)


def test_a_short_utterance_is_followed_by_silence(tmp_path, model):
    save_shard([({"split": "train"}, tone(3 * SIZE))], tmp_path / "shard-00000.npy")
    rows, waveforms = CodedCrops(model, [Utterances(tmp_path)]).batch(2, 25, np.random.default_rng(0))
    assert (rows[:, 12:15] >= 0).all() and (rows[:, 15:] == -1).all()
    assert (waveforms[:, 3 * SIZE :] == 0).all() and waveforms[:, : 3 * SIZE].abs().max() > 0.1


def test_frames_beyond_the_ends_are_silence(tmp_path, model):
    save_shard([({"split": "train"}, tone(3 * SIZE))], tmp_path / "shard-00000.npy")
    crops = CodedCrops(model, [Utterances(tmp_path)])
    rows, _ = crops.batch(1, 25, np.random.default_rng(0))
    mel, _ = crops.decode(rows)
    floor = model.log_mel(torch.zeros(1, SIZE)).unique()
    assert torch.equal(mel[:, 12:].unique(), floor) and not torch.isin(mel[:, :12], floor).any()


# --- training -----------------------------------------------------------------------------------------------------


def test_critics_learn_to_tell_and_the_voice_is_pulled_by_them_only_after_a_while(crops, tmp_path):
    training = VoiceTraining(crops, tmp_path, 1.0, 1e-3)
    first, parts = training.loss(2, 10, np.random.default_rng(0))
    assert "deception" not in parts and first.requires_grad
    for step in range(25):
        training.loss(2, 10, np.random.default_rng(step))
    assert training.judging.losses["critics"] < 2.0  # of critics that say 0 to everything
    training.judging.step = train_voice.CRITIC_STEPS
    loss, parts = training.loss(2, 10, np.random.default_rng(0))
    assert {"deception", "features"} <= set(parts)
    critics_before = [value.grad for value in training.critics.parameters()]
    loss.backward()
    assert all(
        value.grad is before for value, before in zip(training.critics.parameters(), critics_before, strict=True)
    )
    assert all(value.grad is not None for value in training.voice.parameters.values())


def test_the_distance_of_words_is_that_of_whispers_features_and_reaches_the_voice(data, tmp_path):
    torch.manual_seed(0)
    codec = TttCodecModel(TttCodecConfig(**SIZES, whisper_config=WHISPER)).eval()
    training = VoiceTraining(CodedCrops(codec, [Utterances(data)]), tmp_path, 1.0, 1e-3)
    audio = torch.from_numpy(tone(20 * SIZE))[None]
    assert training.words_distance(audio, audio).item() == 0
    other = torch.from_numpy(tone(20 * SIZE, 660.0))[None].requires_grad_()
    frames = torch.tensor([20])
    features, wanted = codec.encoder.features(other, frames), codec.encoder.features(audio, frames)
    distance = training.words_distance(other, audio)
    assert distance.item() == pytest.approx(((features - wanted).abs().mean() / wanted.abs().mean()).item())
    distance.backward()
    assert other.grad.abs().max() > 0
    _, parts = training.loss(2, 10, np.random.default_rng(0))
    assert parts["words"] > 0
    assert all(not parameter.requires_grad for parameter in codec.encoder.parameters())


def test_frames_are_compared_within_each_utterance_and_only_the_decoder_learns(crops, model, tmp_path):
    training = FramesTraining(crops, tmp_path, 1.0, 1e-3)
    loss, parts = training.loss(4, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    numbers = [int(rng.integers(3)) for _ in [rng.integers(1) for _ in range(4)]]
    errors, changes, frames, ratio = 0.0, 0.0, 0, model.config.mel_frames_per_code
    for waveform, codes in (crops.read(0, number) for number in numbers):
        decoded, target = model.decoder(model.quantizer.from_codes(codes[None]))[0], model.log_mel(waveform[None])[0]
        errors += (decoded - target).abs().sum().item()
        changes += (decoded.diff(dim=0) - target.diff(dim=0)).abs().sum().item()
        frames += len(codes) * ratio
    assert parts["mel"] == pytest.approx(errors / (80 * frames), rel=1e-4)
    assert parts["change"] == pytest.approx(changes / (80 * frames), rel=1e-4)
    loss.backward()
    learnt = {name.partition(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert learnt == {"decoder"}


def test_parts_that_never_learnt_are_saved_and_resumed_as_they_are(crops, model, tmp_path):
    training = VoiceTraining(crops, tmp_path, 1.0, 1e-3)
    training.loss(2, 10, np.random.default_rng(0))  # three critics of eight
    training.judging.save()
    resumed = VoiceTraining(CodedCrops(model, crops.corpora), tmp_path, 1.0, 1e-3)
    moments = [
        [
            stage.optimizer.state[value]["step"].item() if value in stage.optimizer.state else None
            for value in stage.parameters.values()
        ]
        for stage in (training.judging, resumed.judging)
    ]
    assert moments[0] == moments[1] and set(moments[0]) == {1.0, None}
    assert resumed.judging.step == 1


@pytest.mark.parametrize("more_layers", [0, 1], ids=["other weights", "the same and more"])
def test_the_voice_of_another_codec_is_not_resumed(data, model, tmp_path, more_layers):
    model.save_pretrained(tmp_path / "out" / "export")
    torch.manual_seed(1)
    other = TttCodecModel(TttCodecConfig(**SIZES, encoder_mel_layers=model.config.encoder_mel_layers + more_layers))
    if more_layers:
        other.load_state_dict(model.state_dict(), strict=False)
    other.save_pretrained(tmp_path / "codec")
    with pytest.raises(SystemExit, match="another codec"):
        train_voice.main(
            ["--codec", str(tmp_path / "codec"), "--data", str(data), "--out", str(tmp_path / "out"), "--minutes", "1"]
        )


def test_a_folder_without_utterances_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no finished shard with utterances of split 'train'"):
        Utterances(tmp_path)


def test_the_command_exports_a_codec_with_the_same_codes_and_another_voice(data, model, tmp_path, monkeypatch):
    monkeypatch.setattr(train_voice, "CRITIC_STEPS", 1)
    model.save_pretrained(tmp_path / "codec")
    command = ["--codec", str(tmp_path / "codec"), "--data", str(data), "--out", str(tmp_path / "out")]
    train_voice.main([*command, "--minutes", "0.03", "--batch", "1", "--codes", "5"])
    trained = AutoModel.from_pretrained(tmp_path / "out" / "export").eval()
    before, after = model.state_dict(), trained.state_dict()
    changed = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"decoder", "vocoder"}
    steps = json.loads((tmp_path / "out" / "time.json").read_text())
    assert steps["voice"]["step"] > 1 and steps["critics"]["step"] == steps["voice"]["step"]
    train_voice.main([*command, "--minutes", "0.03"])  # the budget is spent: nothing more is learnt
    frames = ["--codec", str(tmp_path / "codec"), "--data", str(data), "--out", str(tmp_path / "frames"), "--frames"]
    train_voice.main([*frames, "--minutes", "0.02", "--batch", "2"])
    framed = AutoModel.from_pretrained(tmp_path / "frames" / "export").state_dict()
    assert {key.partition(".")[0] for key in before if not torch.equal(before[key], framed[key])} == {"decoder"}
    assert json.loads((tmp_path / "out" / "time.json").read_text())["voice"]["step"] == steps["voice"]["step"]


# --- recorded speech and measurement ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transcript", "text"),
    [
        ("press 1 to mute, 12 to leave...", "Press one to mute, twelve to leave."),
        ("Goodbye.", "Goodbye."),
        ("Extension 1234.", None),
        ("50% off", None),
        ("Press 1st", None),
        ("Version 2.5", None),
        ("3D audio enabled", None),
        ("", None),
    ],
)
def test_transcripts_are_written_as_nano_writes(transcript, text):
    assert spoken_text(transcript) == text


def test_held_out_prompts_come_once_and_the_others_at_every_speed(tmp_path):
    texts = [
        f"Prompt about {word}."
        for word in ("apples", "boats", "cats", "dogs", "eggs", "fish", "goats", "hats", "ice", "jam", "kings", "lamps")
    ]
    lines = []
    for number, text in enumerate([*texts, "Extension 1234."]):
        soundfile.write(tmp_path / f"{number}.wav", tone(4000), 16_000)
        lines.append(json.dumps({"id": str(number), "audio": f"{number}.wav", "text": text, "speaker": "Allison"}))
    soundfile.write(tmp_path / "long.wav", tone(13 * 16_000), 16_000)
    lines.append(json.dumps({"id": "long", "audio": "long.wav", "text": "Too long.", "speaker": "Allison"}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    found = list(utterances(tmp_path / "manifest.jsonl"))
    held_out, chosen_by, trained = (
        [line["text"] for line, _ in found if line["split"] == split] for split in ("test", "dev", "train")
    )
    assert held_out and chosen_by and trained and not {*held_out, *chosen_by} & {*trained}
    assert sorted(held_out + chosen_by + trained[: len(trained) // 5]) == sorted(texts)
    assert sorted(trained) == sorted(5 * trained[: len(trained) // 5])
    assert {len(audio) for line, audio in found if line["stretch"] == round(1 / 0.9, 3)} == {round(4000 / 0.9) + 1}

    write_recorded(["--prompts", str(tmp_path / "manifest.jsonl"), "--out", str(tmp_path / "out")])
    assert len(Utterances(tmp_path / "out")) == len(trained)
    with pytest.raises(SystemExit):
        write_recorded(["--prompts", str(tmp_path / "manifest.jsonl"), "--out", str(tmp_path / "out")])
    assert len(read_speech(tmp_path / "out", "test", [])) == len(held_out)
    assert len(read_speech(tmp_path / "manifest.jsonl", None, ["Allison"])) == len(texts) + 1  # not the extension
    assert read_speech(tmp_path / "manifest.jsonl", None, ["nobody"]) == []


def test_a_faster_tape_has_a_higher_pitch():
    audio = tone(16_000, 400.0)
    assert at_speed(audio, 1.0) is audio
    faster = at_speed(audio, 1.1)
    assert len(faster) == pytest.approx(16_000 / 1.1, abs=1)
    assert np.abs(np.fft.rfft(faster)).argmax() * 16_000 / len(faster) == pytest.approx(440, abs=2)


def test_shipped_questions_come_with_the_audio_of_their_answers(tmp_path):
    folder = tmp_path / "ttt-nano"
    shutil.copytree(nano_checkpoint(), folder, ignore=shutil.ignore_patterns("questions"))
    asked = [
        json.loads(line) for line in (nano_checkpoint() / "questions" / "questions.jsonl").read_text().splitlines()
    ]
    (tmp_path / "speech").mkdir()
    spoken = [
        (
            {**line, "text": line["question"]},
            soundfile.read(nano_checkpoint() / "questions" / line["file"], dtype="float32")[0],
        )
        for line in asked
    ]
    wrong = ({**spoken[0][0], "answer": "Something else."}, spoken[0][1])
    save_shard([wrong, *spoken], tmp_path / "speech" / "shard-00000.npy")
    ship(folder, tmp_path / "speech", ["sum", "day", "feast"])
    lines = [json.loads(line) for line in (folder / "questions" / "questions.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["sum", "day"]  # there is no feast, and the wrong one is passed over
    assert lines[0]["answer"] == asked[0]["answer"]
    waveforms = [soundfile.read(folder / "questions" / line["reply"])[0] for line in lines]
    assert all(len(audio) > 8000 and abs(audio).max() > 0.05 for audio in waveforms)
