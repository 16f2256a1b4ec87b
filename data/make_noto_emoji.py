"""Make data/noto-emoji, the colour set: `apt-get install fonts-noto-color-emoji && python data/make_noto_emoji.py`.

The font has a PNG picture of 136x128 pixels for every emoji (Noto Emoji, SIL Open Font License 1.1). Skin tones are
left out: five near copies of one picture are no five pictures. The archive's bytes depend on the font's file alone.
"""

import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from fontTools.ttLib import TTFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
OUT = Path(__file__).parent / "noto-emoji" / "noto-emoji.tar"
SKIN_TONES = {"u1F3FB", "u1F3FC", "u1F3FD", "u1F3FE", "u1F3FF"}


def main(path: Path) -> None:
    """Write the archive; each picture is named by the characters that it stands for."""
    font = TTFont(path)
    (pictures,) = font["CBDT"].strikeData
    sequences = dict(ligatures(font))
    OUT.parent.mkdir(exist_ok=True)
    with tarfile.open(OUT, "w", format=tarfile.USTAR_FORMAT) as archive:
        for glyph in sorted(pictures):
            characters = sequences.get(glyph, [glyph])
            if not SKIN_TONES & set(characters):
                member = tarfile.TarInfo(f"{'_'.join(characters)}.png")
                member.size = len(pictures[glyph].imageData)
                archive.addfile(member, BytesIO(pictures[glyph].imageData))
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")


def ligatures(font: TTFont) -> Iterator[tuple[str, list[str]]]:
    """Glyphs that stand for several characters, such as a flag, and the glyphs of these."""
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            for first, found in getattr(getattr(table, "ExtSubTable", table), "ligatures", {}).items():
                for ligature in found:
                    yield ligature.LigGlyph, [first, *ligature.Component]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FONT)
