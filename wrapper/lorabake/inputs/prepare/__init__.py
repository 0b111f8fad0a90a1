"""A clean copy of a dataset: what is to be done with each file, how it is done, and the folder it is done in."""
