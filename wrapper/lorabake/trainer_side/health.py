"""Imports each module named on the command line; the last line it prints is JSON: python, versions, problem.

``versions`` are those of every installed distribution, by its normalised name (lower case, dashes). ``problem`` is None, or the first import that failed and why.
"""

import importlib
import importlib.metadata
import json
import platform
import re
import sys
import warnings


def problem(modules):
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a package can fail to import in any way
            return f"import {name}: {type(error).__name__}: {error}"
    return None


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def main():
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    found = problem(sys.argv[1:])
    installed = {normalised(item.metadata["Name"]): item.version for item in importlib.metadata.distributions()}
    versions = dict(sorted(installed.items()))
    print()
    print(json.dumps({"python": platform.python_version(), "versions": versions, "problem": found}))


if __name__ == "__main__":
    main()
