"""Builds the manual and its reference as static pages in ``site/``.

The manual is ``docs/*.md``; the reference is made from the docstrings of what is public. The build fails on a link
that leads nowhere, a page that the manual's index does not lead to, and an undocumented public name.
"""

from __future__ import annotations

import html
import inspect
import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, get_origin
from urllib.parse import unquote

import docstrings
from markdown_it import MarkdownIt
from markdown_it.token import Token

import emloop_mtl
import emloop_mtl.types

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
INDEX = PurePosixPath("docs/index.md")

REFERENCE = {
    "python": "The Python interface",
    "hooks": "Hooks",
    "schedulers": "Task schedulers",
    "schedules": "Learning-rate schedules",
    "command-line": "The command line",
}

STYLE = """
body { margin: 0 auto; max-width: 72rem; display: flex; gap: 3rem; font: 1rem/1.55 system-ui, sans-serif; color: #222 }
nav { flex: 0 0 14rem; padding: 2rem 0 0 1rem } nav a { display: block; padding: .15rem 0; color: #235 }
main { min-width: 0; flex: 1; padding: 1rem 1rem 4rem 0 }
h3 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem }
pre { background: #f5f5f2; padding: .8rem; overflow-x: auto } code { font-size: .9em }
table { border-collapse: collapse } td, th { border: 1px solid #ddd; padding: .3rem .6rem; vertical-align: top }
thead:not(:has(th:not(:empty))) { display: none }
"""


class Site:
    """All pages by the path of their Markdown in the repository, and what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.texts: dict[PurePosixPath, str] = {}
        self.renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
        self.copied: set[PurePosixPath] = set()

    def build(self) -> None:
        for source in sorted((ROOT / "docs").rglob("*.md")):
            self.texts[PurePosixPath(source.relative_to(ROOT).as_posix())] = source.read_text(encoding="utf-8")
        for name, text in self.reference():
            self.texts[PurePosixPath(f"docs/reference/{name}.md")] = text
        tokens = {page: self.renderer.parse(text) for page, text in self.texts.items()}
        anchors = {page: set(number_headings(parsed)) for page, parsed in tokens.items()}
        for page, parsed in tokens.items():
            self.resolve_links(page, parsed, anchors)
        self.check_readme(anchors)
        order = self.order(tokens)

        shutil.rmtree(SITE, ignore_errors=True)
        for page, parsed in tokens.items():
            target = SITE / page.relative_to("docs").with_suffix(".html")
            target.parent.mkdir(parents=True, exist_ok=True)
            body = self.renderer.renderer.render(parsed, self.renderer.options, {})
            target.write_text(frame(page, body, order), encoding="utf-8")
        for path in self.copied:
            target = SITE / "files" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target)

    def reference(self) -> Iterator[tuple[str, str]]:
        """Yield name and Markdown of every page of the reference."""
        public = {name: getattr(emloop_mtl, name) for name in emloop_mtl.__all__}
        yield "python", self.page("python", public, methods=True)
        yield "hooks", self.page("hooks", exported("emloop_mtl.hooks", without=emloop_mtl.__all__), methods=False)
        yield "schedulers", self.page("schedulers", exported("emloop_mtl.schedulers"), methods=False)
        yield "schedules", self.page("schedules", exported("emloop_mtl.optim.schedules"), methods=False)
        yield "command-line", f"# {REFERENCE['command-line']}\n\n" + "\n\n".join(commands())

    def page(self, name: str, things: dict[str, Any], methods: bool) -> str:
        parts = [f"# {REFERENCE[name]}"]
        for called, thing in things.items():
            if get_origin(thing) is not None:
                definition, text = docstrings.alias_doc(emloop_mtl.types, called)
                self.faults += [] if text else [f"{called} is a type without a text below it in emloop_mtl.types"]
                parts += [f"### {called}", f"```python\n{definition}\n```", docstrings.parse(text).markdown()]
                continue
            self.faults += docstrings.faults(called, thing)
            parts += [f"### {called}", described(called, thing)]
            if methods and inspect.isclass(thing):
                parts += [described(f"{called}.{member}", value) for member, value in docstrings.members(thing)]
        return "\n\n".join(parts)

    def resolve_links(self, page: PurePosixPath, tokens: list[Token], anchors: dict[PurePosixPath, set[str]]) -> None:
        """Check every link and point it to what it leads to in the built site."""
        for token in links(tokens):
            key = "href" if token.type == "link_open" else "src"
            found = self.find(page, str(token.attrs[key]), anchors)
            if found is None:
                continue
            target, fragment = found
            here = PurePosixPath(page).relative_to("docs").parent
            if target in self.texts:
                there = target.relative_to("docs").with_suffix(".html")
            else:
                self.copied.add(target)
                there = PurePosixPath("files") / target
            token.attrs[key] = os.path.relpath(there, here) + (f"#{fragment}" if fragment else "")

    def find(
        self, page: PurePosixPath, link: str, anchors: dict[PurePosixPath, set[str]], folders: bool = False
    ) -> tuple[PurePosixPath, str] | None:
        """Return what a link leads to inside the repository; None if it leads outside or, with a fault, nowhere."""
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            return None
        path, _, fragment = unquote(link).partition("#")
        target = PurePosixPath(os.path.normpath(page.parent / path)) if path else page
        if target in anchors:
            if fragment and fragment not in anchors[target]:
                self.faults.append(f"{page}: link to {link!r}: {target} has no heading of that name")
                return None
            return target, fragment
        if (ROOT / target).is_file() or (folders and (ROOT / target).is_dir()):
            return target, fragment
        self.faults.append(f"{page}: link to {link!r}: there is no such {'file or folder' if folders else 'file'}")
        return None

    def check_readme(self, anchors: dict[PurePosixPath, set[str]]) -> None:
        """Check the links of the documents at the top level, which are read where the repository is."""
        for path in sorted(ROOT.glob("*.md")):
            page = PurePosixPath(path.name)
            tokens = self.renderer.parse(path.read_text(encoding="utf-8"))
            known = anchors | {page: set(number_headings(tokens))}
            for token in links(tokens):
                self.find(page, str(token.attrs["href" if token.type == "link_open" else "src"]), known, folders=True)

    def order(self, tokens: dict[PurePosixPath, list[Token]]) -> dict[PurePosixPath, str]:
        """Return the pages with their titles, in the order in which the index names them."""
        named = [INDEX]
        for token in links(tokens[INDEX]):
            target = PurePosixPath(
                os.path.normpath("docs" / PurePosixPath(str(token.attrs.get("href", "")).split("#")[0]))
            )
            named += [page for page in tokens if page.with_suffix(".html") == target and page not in named]
        self.faults += [f"{INDEX}: leads to every page but {page}" for page in tokens if page not in named]
        return {page: title(tokens[page], page) for page in named}


def exported(module: str, without: list[str] | None = None) -> dict[str, Any]:
    """Return what a package exports, but for protocols: nobody makes one of those."""
    package = import_module(module)
    things = {name: getattr(package, name) for name in sorted(package.__all__) if name not in (without or ())}
    return {name: thing for name, thing in things.items() if not getattr(thing, "_is_protocol", False)}


def described(name: str, thing: Any) -> str:
    """Return the call, the text and the parameters of one class, function, method or property."""
    if isinstance(thing, property):
        return "\n\n".join([f"```python\n{name}\n```", docstrings.parse(inspect.getdoc(thing) or "").markdown()])
    doc = docstrings.class_doc(thing) if inspect.isclass(thing) else docstrings.parse(inspect.getdoc(thing) or "")
    call = docstrings.signature(name, thing, bound="." in name)
    return "\n\n".join([f"```python\n{call}\n```", doc.markdown()])


def commands() -> Iterator[str]:
    """Yield the help of every command, as the command line prints it."""
    import click

    from emloop_mtl.cli import main

    context = click.Context(main, info_name="emloop-mtl", terminal_width=100)
    yield f"```text\n{main.get_help(context)}\n```"
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, terminal_width=100)
        yield f"## {name}\n\n```text\n{command.get_help(inner)}\n```"


def number_headings(tokens: list[Token]) -> Iterator[str]:
    """Give every heading the anchor that code-hosting sites give it, and yield it."""
    seen: dict[str, int] = {}
    for token, inner in itertools.pairwise(tokens):
        if token.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", inner.content.strip().lower()).replace(" ", "-")
            seen[slug] = seen.get(slug, -1) + 1
            token.attrs["id"] = f"{slug}-{seen[slug]}" if seen[slug] else slug
            yield str(token.attrs["id"])


def links(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        for child in token.children or ():
            if child.type in ("link_open", "image"):
                yield child


def title(tokens: list[Token], page: PurePosixPath) -> str:
    headings = (inner.content for token, inner in itertools.pairwise(tokens) if token.type == "heading_open")
    return next(headings, page.stem)


def frame(page: PurePosixPath, body: str, order: dict[PurePosixPath, str]) -> str:
    here = page.relative_to("docs").parent
    entries = (
        f'<a href="{os.path.relpath(other.relative_to("docs").with_suffix(".html"), here)}">{html.escape(name)}</a>'
        for other, name in order.items()
    )
    name = html.escape(order.get(page, page.stem))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{name} · emloop_mtl {emloop_mtl.__version__}</title>\n<style>{STYLE}</style>\n"
        f"<nav>{''.join(entries)}</nav>\n<main>\n{body}</main>\n</html>\n"
    )


def main() -> None:
    site = Site()
    site.build()
    for fault in site.faults:
        print(fault, file=sys.stderr)
    if site.faults:
        sys.exit(f"{len(site.faults)} faults in the documentation")
    print(f"{len(site.texts)} pages in {SITE.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
