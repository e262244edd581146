"""A microphone and a loudspeaker that are files, for a process that plays by callbacks of `sounddevice`."""

import os
import threading
import time


class _Stream:
    def __init__(self, samplerate, blocksize, callback, **options):
        self.seconds, self.size, self.callback = blocksize / samplerate, 2 * blocksize, callback
        self.running = threading.Event()

    def start(self):
        self.running.set()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self):
        self.running.clear()

    def close(self):
        pass

    def _run(self):
        at = time.monotonic()
        while self.running.is_set():
            self.step()
            at += self.seconds
            time.sleep(max(0.0, at - time.monotonic()))


class RawInputStream(_Stream):
    """What is appended to the file is said; otherwise it is silent."""

    def start(self):
        self.file = open(os.environ["FAKE_MICROPHONE"], "rb")  # noqa: SIM115 - it stays open
        super().start()

    def step(self):
        self.callback(self.file.read(self.size).ljust(self.size, b"\0"), self.size // 2, None, None)


class RawOutputStream(_Stream):
    """What is played is appended to the file, silence left out."""

    def start(self):
        self.file = open(os.environ["FAKE_LOUDSPEAKER"], "ab", buffering=0)  # noqa: SIM115
        super().start()

    def step(self):
        played = bytearray(self.size)
        self.callback(played, self.size // 2, None, None)
        if any(played):
            self.file.write(played)
