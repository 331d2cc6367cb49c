"""How messages name a command of this package, and what commands ask of their arguments.

The words of a message can be typed. They are the same in a checkout and where pip has installed the
package: tools/ exists only in a checkout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

PROGRAM = "pcdet-distill"
FILE_ENDINGS = (".html", ".png", ".jpg", ".json", ".onnx", ".zip", ".txt", ".yaml", ".pth")


def command_text(subcommand: str, *words: object) -> str:
    """``pcdet-distill SUBCOMMAND WORDS``, for a shell; empty words are left out.

    Messages put commands between single quotes, so a word with spaces gets double ones.
    """
    texts = [PROGRAM, subcommand, *(str(word) for word in words)]
    return " ".join(f'"{text}"' if " " in text else text for text in texts if text)


def output_folder(text: str) -> str:
    """An ``--out`` that is a folder, for argparse; the name of a file is most likely a mistake."""
    folder = Path(text)
    if folder.suffix.lower() in FILE_ENDINGS and not folder.is_dir():
        meant = folder.with_suffix("")
        raise argparse.ArgumentTypeError(
            f"{text}: expected a folder, found the name of a file; perhaps '{meant}'"
        )
    return text
