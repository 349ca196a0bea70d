# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the site of the documentation and checks its links, after everything is set up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from provision.console import say

CHECKOUT = Path(__file__).resolve().parents[2]
SITE = CHECKOUT / "build" / "docs"

# Warnings are errors. A page that is not read again would not repeat its warnings: hence -E.
SPHINX = ("sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html")


@dataclass
class Page:
    """The places in a page that links may lead to, and where its own links lead."""

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.page.anchors.add(value)
            elif name in ("href", "src") and value:
                self.page.links.add(value)


def read(path: Path) -> Page:
    """Return the anchors and links of an HTML file."""
    reader = _Reader()
    reader.feed(path.read_text())
    return reader.page


def broken_links(site: Path) -> Iterator[str]:
    """Yield a message for each link inside the site whose file or anchor is not there."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in sorted(page.links):
            if urlsplit(link).scheme:
                continue
            name, anchor = urldefrag(link)
            target = (path.parent / unquote(urlsplit(name).path)).resolve() if name else path
            where = f"{path.relative_to(site)}: {link}"
            if not target.is_file():
                yield f"{where}: there is no such file"
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                yield f"{where}: the page has no such anchor"


def build(site: Path = SITE) -> int:
    """Build the site in the folder ``site``; return 0 if nothing is wrong with it."""
    status = subprocess.call([sys.executable, "-m", *SPHINX, str(CHECKOUT / "docs"), str(site)])
    broken = [] if status else list(broken_links(site))
    for message in broken:
        say(message)
    if status or broken:
        return 1
    say(f"the site is {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(build())
