"""How messages name a command of this package, so that the reader can type it.

The same words work in a checkout and where pip has installed the package: tools/ exists only in a
checkout.
"""

from __future__ import annotations

PROGRAM = "pcdet-distill"


def command_text(subcommand: str, *words: object) -> str:
    """``pcdet-distill SUBCOMMAND WORDS``, for a shell; empty words are left out.

    Messages put commands between single quotes, so a word with spaces gets double ones.
    """
    texts = [PROGRAM, subcommand, *(str(word) for word in words)]
    return " ".join(f'"{text}"' if " " in text else text for text in texts if text)
