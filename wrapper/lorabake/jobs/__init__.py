"""Things that run: a training, its resumption, a rehearsal, the quickstart."""
