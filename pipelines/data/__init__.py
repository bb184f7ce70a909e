"""Data: readers of file formats, columns, splits, the cache of features."""
