"""The sections of the page, in order."""

from __future__ import annotations

from pathlib import Path

from ...report.page import Html, items, note, page, paragraph, section, table
from .box_section import box_section
from .contents import FrameData, Shown, read_frame
from .node_parts import node_parts, place_parts
from .sides import describe_terms


def distill_page(shown: Shown) -> Html:
    """The whole page."""
    name = Path(str(shown.cfg.get("CONFIG_FILE", "yaml"))).name
    sections = [introduction(shown)]
    for frame in shown.frames:
        sections += frame_sections(shown, read_frame(shown, frame))
    return page(f"What distillation does: {name}", *sections)


def introduction(shown: Shown) -> Html:
    """What is compared, and by which files."""
    head = shown.sides.after.distiller.head
    terms = describe_terms(shown.cfg, head)
    files = [f"{role}: {file}" for role, file in shown.files.items() if file]
    other = "another student" if shown.sides.before.is_trained else "the student before training"
    parts = [
        paragraph(
            f"A teacher, a student that learnt from it and {other} look at the same frames, "
            "without augmentation. Nodes, neighbours, weights and adapters are those of training. "
            "All pictures are seen from above: forward is up, the rings are around the sensor. "
            "Dashed boxes are the labelled objects."
        ),
        items(files),
    ]
    if terms:
        header = ["term", "method", "student", "teacher", "weight"]
        parts.append(table(header, terms))
    parts += [note(words, "warn") for words in shown.sides.notes]
    return section("What is compared", *parts)


def frame_sections(shown: Shown, data: FrameData) -> list[Html]:
    """The sections of one frame: boxes, then each term."""
    sections = [box_section(shown, data)]
    for name, term in shown.sides.after.distiller.head.named_terms():
        if name in shown.spaces:
            parts = node_parts(shown, data, name, term)
        elif name in data.sides[shown.sides.after.name].places:
            parts = place_parts(shown, data, name)
        else:
            parts = [paragraph(f"{name} compares neither features nor predictions of taps.")]
        sections.append(section(f"Frame {data.scene.name}: {name}", *parts))
    return sections
