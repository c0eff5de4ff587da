"""Pictures whose texts are the user's: drawn as they are, in a font that has their letters."""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.text import Text

from datamodules.core.plot import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GLYPH = re.compile(r"Glyph (\d+) .*missing from (?:current )?font")
#: Which of Debian's and Ubuntu's packages has a script's letters, by how Unicode calls them.
_PACKAGES = {
    "fonts-noto-cjk": ("HANGUL", "CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HALFWIDTH", "FULLWID"),
    "fonts-symbola": ("EMOJI", "FACE", "MUSICAL", "PLAYING CARD", "DOMINO", "MAHJONG"),
}


@contextmanager
def literal_texts(families: Sequence[str] = ()) -> Iterator[set[int]]:
    """Draw texts as they are: ``$`` and backslashes are no mathematics, in no name or token.

    Gives the code points that no font has, once all is drawn; boxes stand for them.

    Args:
        families: Fonts to look into besides the usual one.
    """
    from matplotlib import rc_context

    lacking: set[int] = set()
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *families],
        "text.parse_math": False,
        "text.usetex": False,
    }
    with rc_context(settings), warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", message="Glyph .* missing from")
        yield lacking
    for warning in said:
        glyph = _GLYPH.match(str(warning.message))
        if glyph:
            lacking.add(int(glyph[1]))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


class Fonts:
    """The fonts of a run's pictures: where a letter is lacking, one is looked for that has it.

    That a letter is in no font that is installed is said once.
    """

    def __init__(self) -> None:
        self.families: list[str] = []
        self._looked_for: set[int] = set()

    def save(self, draw: Callable[[], Figure | None], path: Path) -> bool:
        """Draw a picture into a file; return whether there was one to draw."""
        with literal_texts(self.families) as lacking:
            figure = draw()
            if figure is not None:
                figure.savefig(path, dpi=DPI)
        new, self._looked_for = lacking - self._looked_for, self._looked_for | lacking
        if figure is None or not new:
            return figure is not None
        if family := family_with(new):
            self.families.append(family)
            with literal_texts(self.families) as lacking:
                for text in figure.findobj(Text):
                    text.set_fontfamily(["DejaVu Sans", *self.families])
                figure.savefig(path, dpi=DPI)
        if unknown := new & lacking:
            drawn = dict.fromkeys(map(ord, "".join(t.get_text() for t in figure.findobj(Text))))
            read = [letter for letter in drawn if letter in unknown]  # as they are read
            print(f"zoo: {boxes(read or sorted(unknown))}", file=sys.stderr)
        return True


def family_with(letters: set[int]) -> str | None:
    """Return the family of the installed font that has most of some letters, if one has any.

    Also of those that were installed since Matplotlib made its list of fonts.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    most, best = 0, None
    for path in sorted(font_manager.findSystemFonts()):
        try:
            font = FT2Font(path)
            count = len(letters & font.get_charmap().keys())
        except (RuntimeError, OSError):  # one that Matplotlib cannot draw with, of coloured letters
            continue
        if count > most:
            most, best = count, (path, font.family_name)
    if best is None:
        return None
    path, family = best
    if family not in font_manager.get_font_names():
        font_manager.fontManager.addfont(path)
    return family


def boxes(letters: Sequence[int]) -> str:
    """Return a sentence about letters that no font has, in the order in which they are read.

    >>> boxes([0xD55C, 0xAE00])
    'no installed font has 한글: boxes stand for it in pictures; the package fonts-noto-cjk has one'
    """
    shown = "".join(map(chr, letters[:8])) + (" ..." if len(letters) > 8 else "")
    packages = sorted({_package(letter) for letter in letters})
    have = "has one" if len(packages) == 1 else "have some"
    return (
        f"no installed font has {shown}: boxes stand for it in pictures; "
        f"the package{'s' * (len(packages) > 1)} {' and '.join(packages)} {have}"
    )


def _package(letter: int) -> str:
    name = unicodedata.name(chr(letter), "")
    for package, words in _PACKAGES.items():
        if any(word in name for word in words):
            return package
    return "fonts-symbola" if letter > 0x1F000 else "fonts-noto-core"
