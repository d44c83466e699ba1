"""What MkDocs does with a page before it renders it."""

import re


def on_page_markdown(markdown: str, **_: object) -> str:
    """Cuts the names of code blocks: ```` ```sh setup ```` is a block of language `sh`."""
    return re.sub(r"^( *```\w+)[ ,][^\n]*$", r"\1", markdown, flags=re.MULTILINE)
