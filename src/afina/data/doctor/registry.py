"""All checks, the most telling first: their order is that of the findings of one severity."""

from __future__ import annotations

from afina.data.doctor.characters import ControlCharacters, Mojibake, ReplacedCharacters
from afina.data.doctor.check import Check
from afina.data.doctor.classes import AbsentClasses, LabelVariants, LopsidedClasses, SmallClasses
from afina.data.doctor.columns import SilentColumns
from afina.data.doctor.header import RowForHeader
from afina.data.doctor.label_in_text import LabelInText
from afina.data.doctor.languages import Languages
from afina.data.doctor.lengths import Lengths
from afina.data.doctor.near_repeats import NearRepeats
from afina.data.doctor.personal_data import PersonalData
from afina.data.doctor.repeats import ConflictingRows, LeakedRows, RepeatedRows
from afina.data.doctor.short_texts import SameTexts, ShortTexts
from afina.data.doctor.turns import Turns
from afina.data.doctor.unusable import UnreadRows, UnusableRows

CHECKS: tuple[type[Check], ...] = (
    UnreadRows,
    UnusableRows,
    RowForHeader,
    Turns,
    SameTexts,
    LeakedRows,
    ConflictingRows,
    LabelVariants,
    SmallClasses,
    AbsentClasses,
    Mojibake,
    ReplacedCharacters,
    ControlCharacters,
    LabelInText,
    NearRepeats,
    RepeatedRows,
    LopsidedClasses,
    ShortTexts,
    Languages,
    PersonalData,
    SilentColumns,
    Lengths,
)
