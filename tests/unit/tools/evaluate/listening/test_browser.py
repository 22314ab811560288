"""The page in a real browser, answered by keyboard from beginning to end. Skips where no Chromium is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.tools.evaluate.listening import AbxReport, MosReport, score_results, write_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
)


class Browser:
    """The DevTools protocol over a pipe: JSON messages, each ended by a zero byte."""

    def __init__(self, profile: Path) -> None:
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; both ends are lifted out of the way of those two first.
        become = "import fcntl, os, sys; r, w = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]); "
        become += "os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
        browser = [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", become, str(their_in), str(their_out), *browser],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        self.write, self.read = os.fdopen(our_out, "wb"), os.fdopen(our_in, "rb")
        self.count, self.requests, self.session = 0, list[str](), ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        self.write.flush()
        while True:
            answer = self._receive()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def evaluate(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + 20
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key)
        code = {"Enter": "Enter", " ": "Space"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, text=text if kind == "keyDown" else "")

    def close(self) -> None:
        self.session = ""
        self.call("Browser.close")
        self.process.wait(timeout=20)
        self.write.close()
        self.read.close()

    def _receive(self) -> dict[str, Any]:
        received = bytearray()
        while (byte := self.read.read(1)) != b"\0":
            assert byte, "the browser went away"
            received += byte
        answer: dict[str, Any] = json.loads(received)
        return answer


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.mark.parametrize("kind", ["mos", "abx"])
def test_a_rater_goes_through_by_keyboard(
    kind: str,
    browser: Browser,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    voice: Callable[..., npt.NDArray[np.float32]],
) -> None:
    for condition, gain in (("reference", 1.0), ("other", 0.2)):
        write_audio(f"clips/{condition}/a.wav", gain * voice(0.3), 16_000)
    test = write_page(tmp_path / "clips", tmp_path / "t.html", kind=kind, seed=1)
    secret = json.loads(test.key.read_text())
    wanted = {t: 1 if secret["clips"][t]["condition"] == "anchor" else 4 for t in secret["clips"]}

    browser.call("Page.navigate", url=test.page.as_uri())
    browser.wait("document.readyState === 'complete' && document.getElementById('begin') !== null")
    browser.evaluate("document.getElementById('rater').focus()")
    for key in ("7", "Enter"):
        browser.press(key)
    for trial in range(test.trials):
        browser.wait(
            f"run.answers.length === {trial} && now && Object.keys(now.buffers).length === {1 + 2 * (kind == 'abx')}"
        )
        rating = "4" if kind == "mos" else "1"
        browser.press(rating)
        assert browser.evaluate("now.choice") is None, "an answer was taken before the clip was heard"
        for label in ("A", "B", "X") if kind == "abx" else ("Clip",):
            browser.press(label.lower() if kind == "abx" else " ")
            browser.wait(f"now.heard.has('{label}')")
        if kind == "mos":
            rating = str(wanted[browser.evaluate("now.tokens.Clip")])
        else:
            rating = "1" if browser.evaluate("now.tokens.X === now.tokens.A") else "2"
        browser.press(rating)
        browser.press("Enter")
        if trial == 0:
            browser.call("Page.reload")
            browser.wait(
                "document.readyState === 'complete' && document.getElementById('begin').textContent === 'Continue'"
            )
            browser.evaluate("document.getElementById('begin').click()")
    browser.wait("!document.getElementById('done').hidden")

    answers = tmp_path / "answers.json"
    answers.write_text(browser.evaluate("document.getElementById('result').value"))
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    report = score_results([answers], test.key)
    found = {score.condition: score for score in report.conditions}
    if isinstance(report, MosReport):
        assert {name: score.mos.estimate for name, score in found.items()} == {"reference": 4, "other": 4, "anchor": 1}
    else:
        assert isinstance(report, AbxReport)
        assert {name: score.correct for name, score in found.items()} == {"other": 1, "anchor": 1}
