"""A real Chromium, driven over WebDriver's HTTP (W3C): nothing but the browser and its driver is needed."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "wants Chromium and its driver: apt install chromium chromium-driver"

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@frozen
class Browser:
    """One tab."""

    session: str

    def ask(self, path: str, method: str = "POST", **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        with _OPENER.open(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self.ask("/url", url=page.resolve().as_uri())

    def run(self, script: str) -> Any:
        """Run JavaScript and return what it returns; a promise is awaited."""
        wrapped = f"const done = arguments[0]; (async () => {{ {script} }})().then(done, (error) => done(String(error)));"
        return self.ask("/execute/async", script=wrapped, args=[])

    def complaints(self) -> list[str]:
        """Return what the console was told since the last time."""
        return [entry["message"] for entry in self.ask("/se/log", type="browser")]

    def resize(self, width: int, height: int, *, dark: bool = False, media: str = "") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"media": media, "features": features})

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        taken = self.ask("/goog/cdp/execute", cmd="Page.captureScreenshot", params={"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self.ask("/print", background=True))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a headless Chromium with a profile in `folder`, and end it."""
    driver = subprocess.Popen(
        [str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder
    )
    assert driver.stdout is not None
    try:
        port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        wanted = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        root = Browser(f"http://127.0.0.1:{port}/session")
        made = root.ask("", capabilities={"alwaysMatch": wanted})
        tab = Browser(f"{root.session}/{made['sessionId']}")
        try:
            yield tab
        finally:
            tab.ask("", "DELETE")
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
