"""The same path in a browser: sign in by the one-time link, open Jupyter Lab by its link, run a cell, look at it."""

import asyncio
import os
from pathlib import Path

import pytest

from support.browser import chromium
from support.notebook import run_first_cell
from support.servers import Server

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("browser")]

ARTIFACTS = Path(os.environ.get("NEUROPOD_TEST_ARTIFACTS", Path(__file__).parent / "artifacts"))


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
        await run_first_cell(page, "print(6 * 7)", "42")
        await page.screenshot(ARTIFACTS / "jupyter.png")
