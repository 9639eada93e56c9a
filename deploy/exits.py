"""Exit statuses of commands and drivers, beside 0, 1 for a bug and 2 for a mistake; see docs/structure.md."""

FAILED, SPENT, INTERRUPTED = 3, 4, 130
LISTED = 20  # failed blocks named at the end
