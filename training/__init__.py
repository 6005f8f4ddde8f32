"""Dense networks, trained on our own kernels and told whether they are healthy.

`network` holds layers over flat arrays, `trainer` trains one, `stats` is what it learns of its health,
`diagnosis` turns that into a verdict, `export` into files that `lonja publish` takes, `report` into a page;
`run` does all of it for `lonja train`. docs/training.md is the guide. Imports NumPy.
"""
