"""Sentences of nano's page to listen to and to look at."""

import numpy as np
import soundfile

from finetune.nano.measure import samples
from finetune.nano.speech.synthesise import save_shard
from modeling_ttt import nano_checkpoint


def test_each_sentence_is_recorded_by_the_voice_the_codec_and_nano_and_drawn(tmp_path):
    tone = (0.3 * np.sin(2 * np.pi * 300 * np.arange(6400) / 16_000)).astype(np.float32)
    texts = {"Grass is green.": "colour", "Coal is black.": "colour", "A small room.": "phrase", "Blue.": "phrase"}
    lines = [({"id": text, "text": text, "kind": kind, "split": "train"}, tone) for text, kind in texts.items()]
    (tmp_path / "speech").mkdir()
    save_shard(lines, tmp_path / "speech" / "shard-00000.npy")
    options = ["--model", str(nano_checkpoint()), "--speech", str(tmp_path / "speech"), "--out", str(tmp_path)]
    samples.main([*options, "--skip", "1"])
    for kind in ("answer", "phrase"):
        original, rate = soundfile.read(tmp_path / f"nano-{kind}-voice.wav", dtype="float32")
        assert rate == 16_000 and np.abs(original - tone).max() < 1e-3
        spoken = [soundfile.read(tmp_path / f"nano-{kind}-{who}.wav")[0] for who in ("codec", "nano")]
        assert all(len(audio) > 0 and np.isfinite(audio).all() for audio in spoken)
    picture = (tmp_path / "nano-spectrograms.svg").read_text()
    assert picture.count("<image") == 6
