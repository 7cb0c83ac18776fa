"""A headless Chromium, driven by its DevTools protocol: `async with chromium() as browser: page = await browser.page()`."""

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium_path() -> str:
    """The browser's program; a test that needs one is skipped, by name, where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium is installed")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.events: list[dict[str, Any]] = []  # every event since the start: requests, console, …
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            else:
                self.events.append(message)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        answer = await asyncio.wait_for(future, 30)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    async def goto(self, url: str) -> None:
        """Open an address as if it was typed, and wait until it has loaded."""
        tree = await self.send("Page.getFrameTree")
        earlier = {tree["frameTree"]["frame"]["loaderId"], *(document for document, _ in self._lifecycle())}
        answer = await self.send("Page.navigate", url=url)
        if "loaderId" not in answer:
            return  # only the fragment is new
        here = answer["frameId"]
        # Of this document, or of one to which it leads on; the one before may tell late that it has loaded.
        await self._until(
            lambda: any(frame == here and document not in earlier for document, frame in self._lifecycle("load")), url
        )

    def _lifecycle(self, *names: str) -> Iterator[tuple[str, str]]:
        """Yield the documents (and their frames) of which Chromium has told one of these, or anything at all."""
        for event in self.events:
            if event["method"] == "Page.lifecycleEvent" and (not names or event["params"]["name"] in names):
                yield event["params"]["loaderId"], event["params"]["frameId"]

    async def _until(self, true: Callable[[], bool], what: str, seconds: float = 20) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not true():
            assert asyncio.get_running_loop().time() < deadline, f"waited {seconds:.0f} s for {what}"
            await asyncio.sleep(0.02)

    async def run(self, script: str) -> Any:
        """Return what an expression (or a promise) comes to in the page."""
        answer = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def wait(self, script: str, seconds: float = 20) -> Any:
        """Return the first true value of an expression; navigations in between are fine."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            with suppress(AssertionError):
                if value := await self.run(f"(it => it instanceof Node || it)({script})"):
                    return value
            if asyncio.get_running_loop().time() > deadline:
                here = await self.run("location.href + ' ' + document.body?.innerText")
                raise AssertionError(f"waited {seconds:.0f} s for {script}; the page is {here}")
            await asyncio.sleep(0.05)

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path) -> None:
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        await self._socket.close()


class Browser:
    """A Chromium with a profile of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pages: list[Page] = []

    async def page(self) -> Page:
        async with httpx.AsyncClient(timeout=30) as http:
            target = (await http.put(f"http://127.0.0.1:{self._port}/json/new?about:blank")).json()
        socket = await connect(target["webSocketDebuggerUrl"], max_size=None, open_timeout=30)
        page = Page(socket)
        self._pages.append(page)
        for domain in ("Page", "Runtime", "Network"):
            await page.send(f"{domain}.enable")
        await page.send("Page.setLifecycleEventsEnabled", enabled=True)
        return page

    async def pages_at(self, start: str) -> list[str]:
        """The addresses of all tabs that begin so."""
        async with httpx.AsyncClient(timeout=30) as http:
            targets = (await http.get(f"http://127.0.0.1:{self._port}/json/list")).json()
        return [target["url"] for target in targets if target["url"].startswith(start)]

    async def close(self) -> None:
        for page in self._pages:
            await page.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start one, and leave nothing of it behind."""
    profile = Path(mkdtemp(prefix="npc"))
    options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run",
               "--disable-gpu", "--disable-background-networking", "--disable-component-update", "about:blank"]  # fmt: skip
    if os.getuid() == 0:
        options.insert(0, "--no-sandbox")
    process = await asyncio.create_subprocess_exec(
        chromium_path(), *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        told = profile / "DevToolsActivePort"
        deadline = asyncio.get_running_loop().time() + 30
        while not (told.exists() and told.read_text().count("\n")):
            assert process.returncode is None, "Chromium ended at once"
            assert asyncio.get_running_loop().time() < deadline, "Chromium does not start"
            await asyncio.sleep(0.05)
        browser = Browser(int(told.read_text().splitlines()[0]))
        try:
            yield browser
        finally:
            await browser.close()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()
        for _ in range(100):  # its children end a little later and write until they do
            shutil.rmtree(profile, ignore_errors=True)
            if not profile.exists():
                break
            await asyncio.sleep(0.05)
