"""What the names of folders say: which part of a data set one holds, and whether images or masks.

A name is read without case, digits and what stands between its words: `Training_Set`, `seg-train`
and `train2017` are all the word `train` with decorations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile

from tlkit.data.example import PARTS

# Words that say of a folder nothing but that a data set is in it.
_DATA = (
    "data|sets?|splits?|samples?|folders?|files?|parts?|images?|imgs?|pictures?|pics?|"
    "photos?|jpe?gs?|pngs?|segs?|raw|original|final|new|all|cropped|resized"
)
_PARTS = {
    "train": "training|train|trn",
    "val": "validation|validate|valid|val|development|dev",
    "test": "testing|test|tst|holdout",
}
_PART = re.compile(
    f"(?:{_DATA})*(?:{'|'.join(f'(?P<{p}>{words})' for p, words in _PARTS.items())})(?:{_DATA})*"
)
_ONLY_DATA = re.compile(f"(?:{_DATA})+")
_ANY_PART = "|".join(_PARTS.values())
_SAYING_MASKS = (
    "masks?|labels?|annotations?|annots?|segmentations?|trimaps?|ground|truth|gt|bbox(?:es)?|"
    "box(?:es)?|xmls?|txts?|targets?"
)
# `SegmentationClass` (VOC), `gtFine` (Cityscapes), `train_masks` (Carvana): with a word of masks.
_MASKS = re.compile(
    f"(?=.*(?:{_SAYING_MASKS}))"
    f"(?:{_DATA}|{_ANY_PART}|{_SAYING_MASKS}|class(?:es)?|objects?|instances?|semantic|fine|coarse|"
    "colou?rs?|binary|camera)+"
)
# `CameraRGB` (CARLA), `leftImg8bit`; beside masks alone: `left` may be a class like any other.
_IMAGES = re.compile(f"(?:{_DATA}|{_ANY_PART}|inputs?|rgb|camera|left|right|bit)+")
_NUMBERED = re.compile("images?|imgs?|pictures?|pics?|photos?")
_PIECES = re.compile("parts?|batch(?:es)?|chunks?|shards?|volumes?")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


def part_of(name: str) -> str | None:
    """Return the part that a folder of this name holds: `train`, `val`, `test` or None.

    >>> part_of("Training_Set"), part_of("testing"), part_of("trainers")
    ('train', 'test', None)
    """
    return _part(_WORDS.findall(name))


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Return the part that each of some folders side by side holds; those that hold none lack.

    What all names begin or end with (the name of the data set) is no part of any of them, if what
    is left are at least a training part and one more.

    >>> parts_of(["flowers_train", "flowers_test", "flowers_notes"])
    {'flowers_train': 'train', 'flowers_test': 'test'}
    """
    words = {name: _WORDS.findall(name) for name in names}
    plain = _parts(words)
    if "train" in plain.values() or len(words) < 2:
        return plain
    first = _common(words.values())
    rest = {name: own[first:] for name, own in words.items()}
    last = _common(own[::-1] for own in rest.values())
    short = _parts({name: own[: len(own) - last] for name, own in rest.items()})
    return short if len(set(short.values())) > 1 and "train" in short.values() else plain


def is_plain(name: str, part: str) -> bool:
    """Tell whether the name of a part is one of those that the documentation gives."""
    return name.lower() in PARTS[part]


def says_nothing(name: str) -> bool:
    """Tell whether a name says only that images or data are in the folder, as `images` does."""
    return _ONLY_DATA.fullmatch(_letters(_WORDS.findall(name))) is not None


def says_masks(name: str) -> bool:
    """Tell whether a name says that masks, boxes or labels are in the folder, not images."""
    return not says_nothing(name) and _MASKS.fullmatch(_letters(_WORDS.findall(name))) is not None


def says_images(name: str) -> bool:
    """Tell whether a folder beside one of masks holds the images, by its name."""
    return _IMAGES.fullmatch(_letters(_WORDS.findall(name))) is not None


def are_nameless(names: Sequence[str]) -> bool:
    """Tell whether folders side by side are called as no classes are, all of them.

    They say nothing, each in another way, or are numbered pieces of a data set: `class_1` and
    `Sample001` may be classes, `images_001` is none.

    >>> are_nameless(["original", "cropped"]), are_nameless(["images_001", "images_002"])
    (True, True)
    >>> are_nameless(["class_1", "class_2"]), are_nameless(["new", "used"])
    (False, False)
    """
    words = [[word.lower() for word in _WORDS.findall(n) if not word.isdecimal()] for n in names]
    if len(set(map(tuple, words))) == len(names):
        return all(map(says_nothing, names))
    own = words[0]
    if not own or any(other != own for other in words):
        return False
    piece = _PIECES.fullmatch(own[-1]) and (len(own) == 1 or _ONLY_DATA.fullmatch(own[-2]))
    return bool(piece or _NUMBERED.fullmatch(own[-1]))


def _parts(words: dict[str, Sequence[str]]) -> dict[str, str]:
    return {name: part for name, own in words.items() if (part := _part(own))}


def _common(lists: Iterable[Sequence[str]]) -> int:
    """Return how many words all of some lists begin with."""
    return len(list(takewhile(lambda column: len(set(column)) == 1, zip(*lists, strict=False))))


def _part(words: Sequence[str]) -> str | None:
    found = _PART.fullmatch(_letters(words))
    return found.lastgroup if found else None


def _letters(words: Sequence[str]) -> str:
    return "".join(word for word in words if not word.isdecimal()).lower()
