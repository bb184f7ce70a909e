"""The commands of `attnlab`, one file each with its flags and help texts; `actions/` does the work.

Only the standard library is imported at the top of these files; a command imports the rest when it runs.
"""
