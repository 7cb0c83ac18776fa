"""What programs at a terminal share: clean text, tables, a screen, commands with `--json`, exit codes. No domain.

Used by `cli` and `operate`, which do not know each other. `commands` alone needs click.
"""
