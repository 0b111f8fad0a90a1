"""The commands: named parameters in, one call, the result to `render`, an exit code out.

Everything heavy is imported inside a command, so that ``lorabake --help`` stays fast.
"""
