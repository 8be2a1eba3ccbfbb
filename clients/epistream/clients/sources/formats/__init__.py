"""Readers of the files that works publish, each a stream that can be resumed.

`files.py` lists the formats and finds the files of a path; the modules beside it read one kind each.
"""
