"""What a check finds, how checks are run, and how their findings read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from juicyfruits.errors import InputError

LEVELS = ("ok", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        check: the check's name, such as "ROI codes".
        level: "ok", "warning" (the data can be used, but look at it), "error" (they cannot be trusted) or "skipped"
            (what another check tells prevents this one).
        where: the file, subject or table it is about.
        words: what is there, and for warnings and errors what was expected and what to do.
    """

    check: str
    level: str
    where: str
    words: str


Problem = tuple[str, str, str]
"""(level, where, words)"""

Problems = Generator[Problem, None, str]
"""What a check's function gives: it yields problems, and returns one sentence on what it looked at."""


@dataclass(frozen=True)
class Check:
    """A named question about one part of the data; `run` is called once."""

    name: str
    where: str
    run: Callable[[], Problems]


@dataclass(frozen=True)
class Report:
    """All findings on one folder.

    >>> print(Report("data/mine", [Finding("pictures", "ok", "images", "6 can be read")]))
    OK       pictures: images: 6 can be read
    data/mine is in order: 1 check, no error, no warning.
    """

    folder: str
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not self.of("error")

    def of(self, level: str) -> list[Finding]:
        """Return the findings of one level, "ok", "warning", "error" or "skipped"."""
        return [finding for finding in self.findings if finding.level == level]

    def __str__(self) -> str:
        names = list(dict.fromkeys(finding.check for finding in self.findings))
        lines = [line for name in names for line in self._lines(name)]
        verdict = "is in order" if self.ok else "is not in order"
        counts = [counted(len(names), "check"), *(_count(len(self.of(level)), level) for level in ("error", "warning"))]
        return "\n".join([*lines, f"{self.folder} {verdict}: {', '.join(counts)}."])

    def _lines(self, check: str) -> Iterator[str]:
        """One line for all that is in order, and one for each problem."""
        found = [finding for finding in self.findings if finding.check == check]
        fine = [f"{finding.where}: {finding.words}" for finding in found if finding.level == "ok"]
        if fine:
            yield f"{'OK':8} {check}: {'; '.join(fine)}"
        for finding in found:
            if finding.level != "ok":
                yield f"{finding.level.upper():8} {check}: {finding.where}: {finding.words}"


def run_checks(checks: Iterable[Check]) -> list[Finding]:
    """Run every check, whatever the others find; one that cannot be carried out is a finding too.

    A cause that stops several checks is told in full once, and then by the name of the first.

    >>> def count():
    ...     yield "warning", "b.csv", "is empty; fill it"
    ...     return "never said, as there is a problem"
    >>> [finding.words for finding in run_checks([Check("tables", "folder", count)])]
    ['is empty; fill it']
    """
    told: dict[str, str] = {}
    return [finding for check in checks for finding in _examine(check, told)]


def counted(count: int, what: str) -> str:
    """Return "1 voxel", "1,200 voxels".

    >>> counted(1200, "voxel")
    '1,200 voxels'
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _examine(check: Check, told: dict[str, str]) -> Iterator[Finding]:
    found = False
    try:
        for level, where, words in _with_summary(check):
            if level == "ok" and found:
                return
            found = True
            yield Finding(check.name, level, where, words)
    except (InputError, OSError) as error:
        yield from _tell(check, str(error), told)
    except Exception as error:  # what is spoiled in a way nobody foresaw must not hide what the other checks find
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        yield from _tell(check, f"cannot be examined ({reason}); replace the files it is of", told)


def _tell(check: Check, words: str, told: dict[str, str]) -> Iterator[Finding]:
    """Tell what stopped a check: in full the first time, afterwards by the name of the check that told it."""
    if words in told:
        yield Finding(check.name, "skipped", check.where, f"for the reason that stands under {told[words]!r}")
    else:
        told[words] = check.name
        yield Finding(check.name, "error", check.where, words)


def _with_summary(check: Check) -> Iterator[Problem]:
    summary = yield from check.run()
    yield "ok", check.where, summary


def _count(count: int, what: str) -> str:
    return f"no {what}" if count == 0 else counted(count, what)
