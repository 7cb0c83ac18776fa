"""The same path in a browser: sign in by the one-time link, open Jupyter Lab by its link, run a cell, look at it."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from support.browser import Page, chromium
from support.servers import Server

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("browser")]

ARTIFACTS = Path(os.environ.get("NEUROPOD_TEST_ARTIFACTS", Path(__file__).parent / "artifacts"))

OUTPUT = "[...document.querySelectorAll('.jp-OutputArea-output')].map((node) => node.innerText).join('|')"


async def test_a_person_signs_in_and_runs_a_cell_in_jupyter_lab(server: Server):
    server.create("lab", template="jupyterlab")
    await asyncio.to_thread(server.wait_for_status, "lab", "running", seconds=400)
    sign_in = server.run("admin", "sign-in-link").stdout.strip()
    link = server.api.post("/pods/lab/ports/8888/link").json()["url"]
    ARTIFACTS.mkdir(exist_ok=True)

    async with chromium() as browser:
        page = await browser.page()
        await page.size(1440, 900)
        await page.goto(sign_in)
        await page.wait("location.pathname === '/password'")
        await page.screenshot(ARTIFACTS / "password-1440.png")
        await page.goto(sign_in.partition("/sign-in/")[0] + "/")
        await page.wait("document.body.innerText.includes('lab')")
        await page.screenshot(ARTIFACTS / "home-1440.png")
        await page.size(390, 844)
        await page.screenshot(ARTIFACTS / "home-390.png")

        await page.size(1440, 900)
        await page.goto(link)
        await page.wait("!!document.querySelector('.jp-LabShell, #jp-main-dock-panel')", 60)
        await page.wait("location.host.startsWith('lab-') && !location.search.includes('ticket')")
        await page.wait("!!document.querySelector('.jp-LauncherCard')", 60)
        await page.run("document.querySelector('.jp-LauncherCard[data-category=\"Notebook\"]').click(), 'clicked'")
        await page.wait("!!document.querySelector('.jp-Notebook .jp-Cell .cm-content')", 60)
        await page.wait(
            "[...document.querySelectorAll('.jp-NotebookPanel-toolbar')].some(n => n.innerText.includes('Python 3'))",
            60,
        )
        await page.run("document.querySelector('.jp-Notebook .jp-Cell .cm-content').focus(), 'focused'")
        await page.send("Input.insertText", text="print(6 * 7)")
        await _run_until_printed(page, "42")
        await page.screenshot(ARTIFACTS / "jupyter.png")


async def _run_until_printed(page: Page, text: str) -> None:
    """Press Ctrl+Enter until the cell has printed: what is pressed before the kernel is there is dropped by Jupyter."""
    for _ in range(20):
        for kind in ("keyDown", "keyUp"):
            await page.send(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=2
            )
        with suppress(AssertionError):
            await page.wait(f"{OUTPUT}.includes('{text}')", 5)
            return
    raise AssertionError(f"the cell never printed {text}")
