"""Imports each module named on the command line; the last line it prints is JSON: python, versions, failed, missing.

``versions`` are those of every installed distribution, by its normalized name (lower case, dashes). ``failed`` has the
reason for each import that failed. ``missing`` are the modules that were not found, which may be others than those
asked for.
"""

import importlib
import importlib.metadata
import json
import platform
import re
import sys
import warnings


def tried(modules):
    failed, missing = [], []
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a package can fail to import in any way
            failed.append(f"import {name}: {type(error).__name__}: {error}")
            if isinstance(error, ModuleNotFoundError) and error.name and error.name not in missing:
                missing.append(error.name)
    return {"failed": failed, "missing": missing}


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def main():
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    found = tried(sys.argv[1:])
    installed = {normalised(item.metadata["Name"]): item.version for item in importlib.metadata.distributions()}
    versions = dict(sorted(installed.items()))
    print()
    print(json.dumps({"python": platform.python_version(), "versions": versions} | found))


if __name__ == "__main__":
    main()
