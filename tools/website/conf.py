"""Settings of Sphinx for the web site; tools/make_site.py runs it."""

from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

project = html_title = "HPC Starter"
language = "en"
extensions = ["myst_parser", "sphinx_copybutton"]

# a page means here what it means on a Git host
myst_heading_anchors = 4
myst_heading_slug_func = "github"
myst_disable_syntax = [
    *("myst_line_comment", "myst_block_break", "myst_target", "myst_role"),
    *("footnote_def", "footnote_ref"),
]
smartquotes = False

html_theme = "furo"
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-added": "#dafbe1", "color-removed": "#ffebe9"},
    "dark_css_variables": {
        # the background of the drawings
        "color-background-primary": "#15191f",
        "color-background-secondary": "#1b2029",
        "color-background-hover": "#232a35",
        "color-background-border": "#39414d",
        "color-foreground-muted": "#9aa1aa",
        "color-added": "#12361f",
        "color-removed": "#4a1d1f",
    },
}
html_static_path = ["site.css", "site.js"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_copyright = False
html_use_index = False
pygments_dark_style = "github-dark"

# commands and code, but neither outputs nor excerpts of a diff
copybutton_selector = ", ".join(
    f"div.highlight-{name} pre" for name in ("bash", "python", "yaml", "toml")
)
copybutton_prompt_text = "$ "


class TwoSchemes(SphinxTransform):
    """Show one of two files of each drawing, for light and for dark pages."""

    default_priority = 100

    def apply(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            if image["uri"].endswith(".svg"):
                light, dark = image.deepcopy(), image.deepcopy()
                dark["uri"] = dark["uri"].replace(".svg", ".dark.svg")
                light["classes"].append("only-light")
                dark["classes"].append("only-dark")
                image.replace_self([light, dark])


class ShortLiterals(SphinxTransform):
    """Mark code that fits into a line of a phone, so that it is not broken."""

    default_priority = 100

    def apply(self, **kwargs: Any) -> None:
        for literal in self.document.findall(nodes.literal):
            if len(literal.astext()) < 24:
                literal["classes"].append("short")


def skip_changes(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Lead from lesson to lesson with "next" and "previous", past the pages of their changes."""
    relations = app.env.collect_relations()
    for place, key in ((1, "prev"), (2, "next")):
        other = page
        while other in relations and (other == page or other.endswith("-changes")):
            other = relations[other][place] or ""
        if other in relations and other != page:
            link = app.builder.get_relative_uri(page, other)
            context[key] = {"link": link, "title": app.env.titles[other].astext()}


def give_captions_a_level(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Complete the captions of the navigation, which are headings without a level."""
    tree = context["furo_navigation_tree"]
    context["furo_navigation_tree"] = tree.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )


def setup(app: Sphinx) -> None:
    app.add_lexer("output", TextLexer)
    app.add_transform(TwoSchemes)
    app.add_transform(ShortLiterals)
    app.connect("html-page-context", skip_changes)
    # after the theme
    app.connect("html-page-context", give_captions_a_level, priority=900)
