"""The commands of `attnlab`, one file each: its flags and one line about it; `actions/` does the work.

Only the standard library is imported at the top of these files; a command imports what it needs when it runs.
"""
