"""How docstrings become Markdown, and what the documentation build complains about."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """The build script, imported as it is when it runs: its folder first on the path."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield import_module("build_site")
    sys.path.remove(str(FOLDER))
    for name in ("build_site", "docstrings"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def docstrings(build: ModuleType) -> ModuleType:
    module: ModuleType = build.docstrings
    return module


class Bake:
    """Bake a cake.

    Takes its time.

    :param heat: in degrees,
        of Celsius
    :param shape: ``round`` or ``square``
    :raise ValueError: if it burns

    From a cookbook.

    .. code-block:: yaml

        hooks:
          - Bake: {heat: 180}
    """

    def __init__(self, heat: int, *, shape: str = "round", **kwargs: object) -> None: ...

    def taste(self) -> None:
        """Take a bite."""

    def throw(self) -> None: ...


class Fry(Bake):
    """Fry it instead."""

    def taste(self) -> None: ...


def test_fields_are_read_with_their_continuations(docstrings: ModuleType) -> None:
    doc = docstrings.parse(Bake.__doc__)
    assert doc.params == {"heat": "in degrees, of Celsius", "shape": "``round`` or ``square``"}
    assert doc.raises == [("ValueError", "if it burns")]
    assert doc.before == "Bake a cake.\n\nTakes its time."
    assert doc.after == "From a cookbook.\n\n```yaml\nhooks:\n  - Bake: {heat: 180}\n```"


def test_text_without_fields_stays_in_front(docstrings: ModuleType) -> None:
    doc = docstrings.parse("Do it::\n\n    like this\n\nand that.")
    assert (doc.before, doc.after, doc.params) == ("Do it::\n\n    like this\n\nand that.", "", {})


def test_a_call_is_written_on_one_line_or_one_per_parameter(docstrings: ModuleType) -> None:
    assert docstrings.signature("Bake", Bake, False) == "Bake(heat: int, *, shape: str = 'round', **kwargs: object)"
    assert docstrings.signature("x" * 60, Bake, False).splitlines()[1:3] == ["    heat: int,", "    *,"]


def test_what_is_not_described_is_found(docstrings: ModuleType) -> None:
    assert list(docstrings.faults("Bake", Bake)) == ["Bake.throw has no docstring"]
    assert list(docstrings.faults("Fry", Fry)) == [], "parameters and methods are described by the base"

    def slice_it(pieces: int) -> None:
        """Slice it.

        :param peaces: how many
        """

    assert list(docstrings.faults("slice_it", slice_it)) == [
        "slice_it does not describe its parameter 'pieces'",
        "slice_it describes 'peaces', which it does not take",
    ]
    assert list(docstrings.faults("eat", lambda: None)) == ["eat has no docstring"]


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("other.md", None),
        ("other.md#a-second-heading", None),
        ("#top", None),
        ("https://example.org/anything", None),
        ("../setup.cfg", None),
        ("missing.md", "there is no such file"),
        ("other.md#missing", "has no heading of that name"),
        ("..", "there is no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(build: ModuleType, link: str, fault: str | None) -> None:
    site = build.Site()
    page, other = PurePosixPath("docs/page.md"), PurePosixPath("docs/other.md")
    texts = {page: f"# Top\n\n[there]({link})", other: "# Other\n\n## A second `heading`!"}
    tokens = {name: site.renderer.parse(text) for name, text in texts.items()}
    anchors = {name: set(build.number_headings(parsed)) for name, parsed in tokens.items()}
    site.texts = texts
    site.resolve_links(page, tokens[page], anchors)
    if fault is None:
        assert site.faults == []
    else:
        (found,) = site.faults
        assert fault in found


def test_links_lead_to_the_built_pages_and_to_copies_of_files(build: ModuleType) -> None:
    site = build.Site()
    page = PurePosixPath("docs/deep/page.md")
    site.texts = {page: "[a](../other.md#other) [b](../../setup.cfg)", PurePosixPath("docs/other.md"): "# Other"}
    tokens = site.renderer.parse(site.texts[page])
    site.resolve_links(page, tokens, {page: set(), PurePosixPath("docs/other.md"): {"other"}})
    assert [str(token.attrs["href"]) for token in build.links(tokens)] == ["../other.html#other", "../files/setup.cfg"]
    assert site.copied == {PurePosixPath("setup.cfg")}


def test_a_page_that_the_index_does_not_lead_to_is_found(build: ModuleType) -> None:
    site = build.Site()
    texts = {"docs/index.md": "# Top\n\n[a](a.md)", "docs/a.md": "# A", "docs/b.md": "# B"}
    site.texts = {PurePosixPath(name): text for name, text in texts.items()}
    tokens = {name: site.renderer.parse(text) for name, text in site.texts.items()}
    for name, parsed in tokens.items():
        site.resolve_links(name, parsed, {other: set() for other in tokens})
    order = site.order(tokens)
    assert list(order.values()) == ["Top", "A"]
    assert site.faults == ["docs/index.md: leads to every page but docs/b.md"]


def test_a_type_is_described_by_its_definition_and_the_text_below_it(docstrings: ModuleType) -> None:
    types = import_module("emloop_mtl.types")
    definition, text = docstrings.alias_doc(types, "TimeProfile")
    assert definition == "TimeProfile = dict[str, MutableSequence[float]]"
    assert text == "Name of a measured activity -> its durations in seconds."
    assert docstrings.alias_doc(types, "Position") == ("", "")


def test_the_manual_has_no_faults(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SITE", tmp_path / "site")
    site = build.Site()
    site.build()
    assert site.faults == []
    assert (tmp_path / "site/index.html").is_file()
    assert (tmp_path / "site/reference/hooks.html").is_file()
