"""Prints what torch sees, as JSON on the last line: version, cuda (what it was built for), and available, devices or error."""

import json
import sys
import warnings


def main():
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    try:
        import torch
    except Exception as error:  # a broken package can fail in any way
        return {"error": f"{type(error).__name__}: {error}"}
    found = {"version": torch.__version__, "cuda": torch.version.cuda, "available": False, "devices": []}
    try:
        if torch.version.cuda:
            torch.cuda.init()
            found["devices"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
            torch.zeros(8, device="cuda").sum().item()  # a kernel for this card
            found["available"] = bool(found["devices"])
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


if __name__ == "__main__":
    answer = main()
    print()
    print(json.dumps(answer))
