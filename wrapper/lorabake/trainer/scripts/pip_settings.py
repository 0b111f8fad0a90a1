"""Prints pip's configuration for one of its commands as JSON: COMMAND and then the names of options.

pip is asked, because it alone knows its files and their priority; but only for the values, so that none of its options
takes effect: `pip config list` itself would obey `user`, `quiet` or `python`. ``get_value`` has existed under this name
from pip 10 to 26, while the result of ``items`` has changed.
"""

import json
import sys

from pip._internal.configuration import Configuration
from pip._internal.exceptions import ConfigurationError


def main():
    command, *names = sys.argv[1:]
    configuration = Configuration(isolated=False)
    configuration.load()
    found = {}
    for section in ("global", command, ":env:"):  # the later one wins
        for name in names:
            try:
                value = configuration.get_value(f"{section}.{name}")
            except ConfigurationError:
                continue
            if value:
                found[name] = value
    print(json.dumps(found))


if __name__ == "__main__":
    main()
