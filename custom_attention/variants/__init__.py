"""The variants, one file each: the file's name is what a YAML says."""
