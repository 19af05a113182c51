"""Pages of the site (a hook of mkdocs): the Markdown of this repository where it stands, docs/ and what lies around it.

Paths in the nav and in links are those of the repository, so no page says anything but what it says there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("*.md", "flows.yaml", "docs/**/*.md", "docs/**/*.svg", "docs/**/*.webp", "examples/*/README.md")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^()#\s:]+)\)")
PICTURE = re.compile(r'(?<=["])docs/(?=images/[\w-]+\.webp")')
"""A picture in two colours is HTML, whose addresses mkdocs leaves alone."""
FOLDERS = {
    "docs/decisions": ("Decisions", "Why it is as it is, where that surprises: one page for each decision.", "*.md"),
    "examples": ("Examples", "A folder each, with a flow to copy; `millrace check` passes all of them.", "*/README.md"),
}
"""What a forge lists by itself: folders with no README, and so the title, the first line and the pages of one."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that stand there in place of each `*` of the nav."""
    named = set(_leaves(config.nav))
    config.nav = _filled(config.nav, named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name every page by its path in the repository, and give it an address without the `docs/`."""
    paths = sorted({path.relative_to(ROOT).as_posix() for shown in SHOWN for path in ROOT.glob(shown)})
    ours = [_file(path, config) for path in paths]
    ours += [_contents(folder, config) for folder in FOLDERS]
    theirs = [file for file in files if file.src_dir != config.docs_dir]  # the theme's
    return Files([*ours, *theirs])


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Mend what a forge shows by itself: folders, source files, Markdown in `<details>`, what lies beside a README."""
    path = ROOT / page.file.src_uri

    def mended(link: re.Match[str]) -> str:
        text, to = link.groups()
        target = (path.parent / to).resolve()
        if target.is_dir():
            return f"[{text}]({to.rstrip('/')}/README.md)"
        if target.is_file() and files.get_file_from_path(target.relative_to(ROOT).as_posix()) is None:
            return text
        return link[0]

    markdown = PICTURE.sub("", LINK.sub(mended, markdown)).replace("<details>", '<details markdown="1">')
    if path.parent.parent.name == "examples":
        for beside in sorted(path.parent.glob("flows.*"), reverse=True):
            kind = {".py": "python", ".yaml": "yaml"}[beside.suffix]
            markdown += f"\n\n## {beside.name}\n\n```{kind}\n{beside.read_text()}```\n"
    return markdown


def _file(path: str, config: MkDocsConfig) -> File:
    there = File(path.removeprefix("docs/"), None, config.site_dir, config.use_directory_urls).dest_uri
    return File(path, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=there)


def _contents(folder: str, config: MkDocsConfig) -> File:
    title, about, pages = FOLDERS[folder]
    lines = [f"# {title}", "", about, ""]
    for page in sorted((ROOT / folder).glob(pages)):
        heading = page.read_text().splitlines()[0].removeprefix("# ").replace(". ", "\\. ")
        lines.append(f"- [{heading}]({page.relative_to(ROOT / folder).as_posix()})")
    there = _file(f"{folder}/README.md", config)
    there.abs_src_path, there.content_string = None, "\n".join(lines)
    return there


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for item in (nav.values() if isinstance(nav, dict) else nav) for leaf in _leaves(item)]


def _filled(nav: Any, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {name: _filled([inner] if "*" in inner else inner, named) for name, inner in nav.items()}
    if isinstance(nav, str):
        return nav
    filled: list[Any] = []
    for item in nav:
        if isinstance(item, str) and "*" in item:
            found = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(item))
            filled += [path for path in found if path not in named]
        else:
            filled.append(_filled(item, named))
    return filled
