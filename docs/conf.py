# SPDX-License-Identifier: GPL-2.0-or-later
"""Sphinx's configuration of the site; ``scripts/docs`` builds it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

project = "qemu_vmstate"
release = version = tomllib.loads(PYPROJECT.read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conf.py"]
highlight_language = "none"

nitpicky = True
# Names of Python's own library, of pytest, and of type variables have no page here.
nitpick_ignore = [("py:class", "qemu_vmstate.vmsd.description.VMStateDescription")]
nitpick_ignore_regex = [
    ("py:.*", r"(argparse|collections|contextlib|os|pathlib|pytest|types|typing|enum)\..*"),
    ("py:.*", r"(.*\.)?[CFKMNST]"),
]

myst_heading_anchors = 3  # the same anchors as on a forge that shows the pages

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Buffer": "collections.abc.Buffer"}
maximum_signature_line_length = 120
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"qemu_vmstate {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

PUBLIC = {
    module: set(import_module(module).__all__)
    for module in ("qemu_vmstate", "qemu_vmstate.stream", "qemu_vmstate.vm")
}
LITERAL = re.compile(r"(?<![:`])``(\w+)(\(\))?``(?!\w)")


def link_literals(lines: list[str], own: str, module: str) -> None:
    """Make a link of each ````Name```` or ````name()```` in a docstring that is a public name."""

    def link(match: re.Match[str]) -> str:
        name, call = match[1], match[2] or ""
        home = module if name in PUBLIC.get(module, ()) else "qemu_vmstate"
        # A word such as ``field`` may mean anything; a function is written with parentheses.
        is_name = name in PUBLIC[home] and (call or not name.islower() or name[-1].isdigit())
        if not is_name or name == own:
            return match[0]
        return f":py:obj:`{name}{call} <{home}.{name}>`"

    lines[:] = [LITERAL.sub(link, line) for line in lines]


def on_docstring(
    _app: Sphinx, _what: str, name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Link the public names in a docstring that autodoc has read."""
    module = next((m for m in sorted(PUBLIC, reverse=True) if name.startswith(f"{m}.")), "")
    link_literals(lines, name.removeprefix(f"{module}.").split(".")[0], module)


def on_missing_reference(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> Any:
    """Resolve the name of the module that defines a class, as signatures have it."""
    domain = env.domains["py"]
    assert isinstance(domain, PythonDomain)
    target = str(node.get("reftarget", ""))
    package, _, name = target.rpartition(".")
    if node.get("refdomain") != "py" or (package and not target.startswith("qemu_vmstate.")):
        return None
    # The package that re-exports it is the nearest one above; exceptions are in the root too.
    for home in (*_and_above(package), "qemu_vmstate"):
        if f"{home}.{name}" in domain.objects:
            assert app.builder is not None
            place = (env, str(node["refdoc"]), app.builder, "obj", f"{home}.{name}")
            return domain.resolve_xref(*place, node, content)
    return None


def _and_above(package: str) -> Iterator[str]:
    while package:
        yield package
        package = package.rpartition(".")[0]


class AutoAlias(SphinxDirective):
    """``.. autoalias:: module.that.defines.u8``: a type alias, with the text below it.

    autodoc has the docstring of ``typing.Annotated`` for these.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the description of the alias, in the current module."""
        module, _, name = self.arguments[0].rpartition(".")
        analyzer = ModuleAnalyzer.for_module(module)
        analyzer.analyze()
        self.env.note_dependency(analyzer.srcname)
        lines = analyzer.attr_docs["", name]
        current = self.env.ref_context.get("py:module", "qemu_vmstate")
        link_literals(lines, name, current)
        of = get_args(getattr(import_module(module), name))[:1]
        kind = [f"   :type: {of[0].__name__}"] if of and isinstance(of[0], type) else []
        text = [f".. py:data:: {name}", *kind, "", *(f"   {line}" for line in lines)]
        return self.parse_text_to_nodes("\n".join(text))


def setup(app: Sphinx) -> None:
    """Add what this site has beyond autodoc."""
    app.add_directive("autoalias", AutoAlias)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("missing-reference", on_missing_reference)
