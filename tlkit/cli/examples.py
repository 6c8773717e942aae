"""How the examples at the end of `--help` are laid out."""

from __future__ import annotations


def examples(*commands: str) -> str:
    """Return the epilog of a command: one example a line, none folded."""
    head = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", head, *(f"  {command}" for command in commands)])
