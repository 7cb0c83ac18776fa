"""Jupyter Lab in a browser: a new notebook from the launcher, and a cell that is run until it has printed."""

from contextlib import suppress

from support.browser import Page

_OUTPUT = "[...document.querySelectorAll('.jp-OutputArea-output')].map((node) => node.innerText).join('|')"
_TOOLBARS = "[...document.querySelectorAll('.jp-NotebookPanel-toolbar')]"


async def run_first_cell(page: Page, code: str, printed: str) -> None:
    """Make a notebook in the Lab that the page shows, and run the code in its first cell."""
    card = "document.querySelector('.jp-LauncherCard[data-category=\"Notebook\"]')"  # there once the kernels are known
    await page.wait(f"!!{card}", 60)
    await page.run(f"{card}.click(), 'clicked'")
    await page.wait("!!document.querySelector('.jp-Notebook .jp-Cell .cm-content')", 60)
    await page.wait(f"{_TOOLBARS}.some(n => n.innerText.includes('Python 3'))", 60)
    await page.run("document.querySelector('.jp-Notebook .jp-Cell .cm-content').focus(), 'focused'")
    await page.send("Input.insertText", text=code)
    for _ in range(20):  # what is pressed before the kernel is there is dropped by Jupyter
        for kind in ("keyDown", "keyUp"):
            await page.send(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=2
            )
        with suppress(AssertionError):
            await page.wait(f"{_OUTPUT}.includes('{printed}')", 5)
            return
    raise AssertionError(f"the cell never printed {printed}")
