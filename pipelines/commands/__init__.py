"""The commands of `attnlab`, one file each: what it takes, what it does, one line about it.

Only the standard library is imported at the top of these files; a command imports what it needs when it runs.
"""
