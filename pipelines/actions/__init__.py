"""What each command does: `actions/fold.py` is `attnlab fold`; its flags are in `cli/fold.py`."""
