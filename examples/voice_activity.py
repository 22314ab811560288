"""Voice activity over a recording, window by window: voice_activity.py silero_vad.onnx speech.wav (16 kHz, mono)."""

import sys
import time
import wave

import numpy as np

import omni_sdk as omni

RATE, WINDOW, CONTEXT = 16_000, 512, 64


def windows(path: str) -> list[np.ndarray]:
    """Each window of 32 ms with the 64 samples before it, as [1, 576] float32."""
    with wave.open(path) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"Expected 16 kHz mono PCM16, got something else - at {path}")
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), pcm])
    return [padded[None, start : start + CONTEXT + WINDOW] for start in range(0, pcm.size - WINDOW + 1, WINDOW)]


def main(model_path: str, wav_path: str) -> None:
    with omni.load(model_path) as model, model.stream(sr=np.array(RATE)) as stream:
        chunks = windows(wav_path)
        started = time.perf_counter()
        speech = np.array([stream.step(input=chunk)["output"].item() for chunk in chunks])
        seconds = time.perf_counter() - started
        audio = len(chunks) * WINDOW / RATE
        copied = model.stats().bytes_copied
    for start in range(0, len(speech), 31):
        part = speech[start : start + 31]
        print(f"{start * WINDOW / RATE:5.1f} s  {'#' * round(part.mean() * 50):<50} {part.mean():.2f}")
    print(
        f"{(speech > 0.5).mean():.1%} of {len(chunks)} windows are speech;"
        f" {seconds / len(chunks) * 1e6:.0f} us a window, RTF {seconds / audio:.4f}, {copied} bytes copied"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
