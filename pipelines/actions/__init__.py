"""The commands: `actions/fold.py` is `attnlab fold`, and its flags are in `cli/fold.py`."""
