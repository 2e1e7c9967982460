"""Lists the checks of an audit in words, each with its findings or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.audit.findings import Finding


@dataclass(frozen=True, slots=True)
class Check:
    """One question that an audit asks of a set.

    Attributes:
        title: the good answer, in words.
        codes: of the findings that are the other answers.
        deep: whether only a deep audit asks it.
    """

    title: str
    codes: tuple[str, ...]
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A check's answer.

    Attributes:
        check: the question.
        findings: that answer it; none where all is well.
        is_asked: False where the audit was not deep enough.
    """

    check: Check
    findings: tuple[Finding, ...]
    is_asked: bool


CHECKS = (
    Check("Every file of an image can be read", ("unreadable",)),
    Check("No files were left out", ("left_out",)),
    Check("No image has two labels", ("two_labels", "near_two_labels")),
    Check("No image of the test set is elsewhere too", ("leaked_copies", "near_leaks")),
    Check("No image of the training set is in the validation set", ("copies_in_validation",)),
    Check("No image is there twice", ("copies", "near_copies")),
    Check("Every group is on one side of the split", ("groups_across_splits", "groups_in_validation")),
    Check("It is known which images belong together", ("no_group_rule",)),
    Check("Classes have similar numbers of images", ("imbalance",)),
    Check("No class is missing from the test or validation images", ("missing_class",)),
    Check("Files give no class away by format, size or metadata", ("shortcuts", "allowed_shortcuts")),
    Check("Borders and colours give no class away", ("picture_shortcuts",), deep=True),
    Check("File names have the suffix of their format", ("wrong_extension",)),
    Check("Images are of one kind", ("mixed_modes",)),
    Check("Images have 8 bits a channel", ("sixteen_bit",)),
    Check("Files hold one image", ("several_frames",)),
    Check("Images are large enough for the model's input", ("tiny",)),
    Check("Images have the same shape", ("odd_shape",)),
    Check("Images show something", ("no_detail",)),
    Check("Images are neither dark nor washed out", ("dark", "bright")),
    Check("Images are equally sharp", ("blurred",)),
)


def answer_checks(findings: Sequence[Finding], *, deep: bool) -> list[Result]:
    """Return each check with its findings, those with findings first; a finding of no check has one of its own.

    Args:
        findings: of an audit.
        deep: whether the audit was.
    """
    known = {code for check in CHECKS for code in check.codes}
    others = [Check(finding.code.replace("_", " ").capitalize(), (finding.code,)) for finding in findings]
    checks = [*CHECKS, *(check for check in others if check.codes[0] not in known)]
    results = [
        Result(check, tuple(found for found in findings if found.code in check.codes), deep or not check.deep)
        for check in checks
    ]
    return sorted(results, key=lambda result: not result.findings)
