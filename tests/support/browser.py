"""A headless Chromium for tests of pages, opened from disk as a user would."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed (apt-get install)"
)


class Browser:
    """One page at a time, at a given width and in a given theme."""

    def __init__(self) -> None:
        # Imported here, so that the tests are skipped where neither it nor Chromium is there.
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        assert CHROMIUM is not None
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def quit(self) -> None:
        self._driver.quit()

    def open(self, path: Path) -> None:
        self.console()
        self._driver.get_log("performance")
        self._driver.get(path.resolve().as_uri())

    def look(self, *, width: int, theme: str) -> None:
        self._command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )
        feature = {"name": "prefers-color-scheme", "value": theme}
        self._command("Emulation.setEmulatedMedia", {"features": [feature]})

    def run(self, script: str) -> Any:
        return self._driver.execute_script(script)

    def press_tab(self) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        ActionChains(self._driver, duration=0).send_keys(Keys.TAB).perform()

    def press_enter(self) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        ActionChains(self._driver, duration=0).send_keys(Keys.ENTER).perform()

    def pdf(self) -> bytes:
        printed = self._command("Page.printToPDF", {"preferCSSPageSize": True})
        return base64.b64decode(printed["data"])

    def console(self) -> list[str]:
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def _command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._driver.execute_cdp_cmd(name, arguments)
