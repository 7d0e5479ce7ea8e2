"""Check of the project's English: ``python tests/support/words.py`` lists each banned word or habit with its place.

It reads all Markdown files and the texts under ``deploy``, and the whole source of the package, comments included.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

UNITS = "FOV|cell|sample|frame|block|worker|core|job|task|row|channel|pixel|process|second|minute"
BANNED = {
    "anew": "'again', or 'regenerate'",
    "of (?:its|their|one's) own": "'separate', or drop it",
    r"h(?:old|olds|eld|olding) (?:\w+ ){0,2}against": "'compare' or 'check'",
    "(?:mend|mends|mended|mending|Mend|MEND)": "'fix' or 'repair'",
    "let(?:s|ting)? go of": "'release' or 'free'",
    "(?:a person|A person|somebody|nobody)": "'user', 'you', or 'no one'",
    "[Ii]n place of": "'instead of'",
    r"(?:one|once|twice|row|line|file|files|CSV|MiB|\d+) a (?:" + UNITS + ")": "'per FOV', 'per cell'",
    "that which": "the noun",
    "(?:is|are) none": "what is there instead",
    "what is said": "the noun",
}
"""Patterns, and what to write instead. A space also stands for a line break within prose, comments and strings."""
BREAK = r'(?:[\s#]|f?")+'
QUESTION = re.compile(r"(?:What|Whether|How|Which|That|Where|When|Who|Why|If)\b")


def faults_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and message of each fault of a file."""
    text = path.read_text()
    for pattern, better in BANNED.items():
        for found in re.finditer(rf"\b{pattern.replace(' ', BREAK)}\b", text):
            words = re.sub(BREAK, " ", found[0])
            yield text.count("\n", 0, found.start()) + 1, f"'{words}': write {better}"
    if path.suffix in (".py", ".pyi"):
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ) and (start := QUESTION.match(node.value.value)):
                yield node.lineno, f"docstring begins with '{start[0]}': begin with a noun or a verb"


def checked_files() -> list[Path]:
    """Files to read."""
    found = {
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(p for p in (ROOT / "deploy").rglob("*") if p.is_file()),
    }
    found |= {path for path in (ROOT / "pyama_dask").rglob("*") if path.suffix in (".py", ".pyi")}
    return sorted(found)


def main() -> int:
    """Print all faults; the exit status is 1 if there are any."""
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {message}"
        for path in checked_files()
        for line, message in sorted(faults_of(path))
    ]
    print("\n".join(faults) or "words: no faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
