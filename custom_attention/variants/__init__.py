"""The variants, one file each; the file's name is the variant's name in YAML."""
