"""A real browser, steered by its DevTools interface: it reaches this machine alone and can log in to Prefect's UI."""

import itertools
import json
import re
import shutil
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect


class Browser:
    """One page of a browser."""

    def __init__(self, line: ClientConnection) -> None:
        self._line, self._numbers, self._page = line, itertools.count(1), {}
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._page: dict[str, str] = {"sessionId": self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self._do("Page.enable")

    def log_in(self, login: str) -> None:
        """Let Prefect's UI find the login where it keeps the one that was typed in."""
        script = f"localStorage.setItem('prefect-password', '{b64encode(login.encode()).decode()}')"
        self._do("Page.addScriptToEvaluateOnNewDocument", source=script)

    def show(self, address: str, told: list[str], scheme: str, picture: Path) -> list[str]:
        """Open a page and take a picture of it once it tells what it should; returns what it does not tell after 30 seconds."""
        self._do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._do("Page.navigate", url=address)
        give_up, missing = time.monotonic() + 30, told
        while missing and time.monotonic() < give_up:
            time.sleep(0.2)
            shown = self._do("Runtime.evaluate", expression="document.documentElement.outerHTML", returnByValue=True)
            page = shown["result"].get("value", "")
            missing = [words for words in told if words not in page]
        picture.write_bytes(b64decode(self._do("Page.captureScreenshot")["data"]))
        return missing

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters, **self._page}))
        while (answer := json.loads(self._line.recv(timeout=30))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Start a browser and end it with the block; the test is skipped where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium here")
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1400,1800",
        f"--user-data-dir={folder}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(found[0] for line in process.stderr if (found := re.search(r"ws://\S+", line)))
            with connect(address, max_size=None) as line:
                yield Browser(line)
        finally:
            process.kill()
