"""The published works that knowledge can be imported from, and how their records become submissions.

`table.py` lists the works. `crawl.py`, `annotation.py`, `synthetic.py` and `collaborative.py` hold an adapter for each,
by stage: a pure function from one record to what it says. `submissions.py` makes submissions of that. `formats/` reads
the files that the works publish, and `mapping.py` is for everything that is in no table: it reads a mapping file, and
`mapped.py`, with `judgements.py` for its feedback, is the adapter that the file describes.

Nothing here runs code, fetches media, or loads a pickle.
"""
