"""Parsers of the commands: defaults and examples in the help, the nearest name in errors."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Adds the default to an option's help, and keeps the lines of the examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        shown = action.default not in (None, False, [], argparse.SUPPRESS) and bool(action.option_strings)
        return f"{text} (default: %(default)s)".lstrip() if shown and "default" not in text else text


class Parser(argparse.ArgumentParser):
    """Names the nearest option when one is misspelt."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Formatter, **options})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a whole command line; exit with status 2 if something is left over."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}{self._nearest_option(left)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Print the usage and the reason, and exit with status 2."""
        self.print_usage()
        self.exit(2, f"{self.prog}: {' '.join(message.splitlines())}\n")

    def print_usage(self, file: Any = None) -> None:
        """Print the usage to stderr, where the reason goes too."""
        import sys

        super().print_usage(file or sys.stderr)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as err:
            err.message += suggest(str(value), map(str, action.choices or ()))
            raise

    def _nearest_option(self, left: Sequence[str]) -> str:
        wrong = next((text.partition("=")[0] for text in left if text.startswith("-")), "")
        return suggest(wrong, (option for action in self._actions for option in action.option_strings))


def suggest(text: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the nearest known name, or nothing."""
    near = difflib.get_close_matches(text, list(known), n=1) if text else []
    return f"; did you mean {near[0]}?" if near else ""


def format_examples(examples: Sequence[str]) -> str:
    """Return the end of a command's help."""
    return "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else ""
