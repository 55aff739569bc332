"""The names of the embedded digits suite: classes, subsets, corruptions. Imports nothing heavy."""

CLASS_IDS: tuple[str, ...] = ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9")
"""Class ids in label order (index i is the digit i); they play the role of WordNet ids."""

CLASS_NAMES: tuple[str, ...] = (
    "zero, nought",
    "one, unity",
    "two, deuce",
    "three, trio",
    "four, quartet",
    "five, quintet",
    "six, sextet",
    "seven, heptad",
    "eight, octet",
    "nine, ennead",
)
"""Human words in label order. They hold commas, as ImageNet's do."""

A_CLASSES: tuple[str, ...] = ("d1", "d3", "d5", "d7", "d8", "d9")
"""The classes that the naturally hard set (`digits-a`) covers."""

R_CLASSES: tuple[str, ...] = ("d0", "d2", "d3", "d4", "d5", "d6", "d8")
"""The classes that the renditions (`digits-r`) cover; shares d3, d5 and d8 with `A_CLASSES`."""

CORRUPTIONS: tuple[str, ...] = (
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "gaussian_noise",
    "impulse_noise",
    "jpeg_compression",
    "pixelate",
)
"""The corruptions of `digits-c`, sorted."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)
"""The severities of `digits-c`, growing."""

RENDITIONS: tuple[str, ...] = ("inverted", "rotated", "textured", "thick")
"""The styles in which `digits-r` shows each of its digits, sorted; they end its file names."""

FOLDER_TO_LABEL: dict[str, str] = {
    "cross": "Cross",
    "deuce_card": "Deuce card",
    "nought": "Nought",
    "one_or_seven": "One or seven",
    "plus_sign": "Plus sign",
    "quartet": "Quartet",
    "quintet": "Quintet",
    "rowing_eight": "Rowing eight",
    "six_or_nine": "Six or nine",
}
"""The folders of the ObjectNet-like set and the label of each."""

LABEL_TO_CLASSES: dict[str, tuple[str, ...]] = {
    "Deuce card": ("d2",),
    "Nought": ("d0",),
    "One or seven": ("d1", "d7"),
    "Quartet": ("d4",),
    "Quintet": ("d5",),
    "Rowing eight": ("d8",),
    "Six or nine": ("d6", "d9"),
}
"""The classes of the ObjectNet-like labels that overlap the label space. "Cross" and "Plus sign"
do not, as 200 of ObjectNet's 313 classes do not, and no label covers d3."""
