"""`lorabake prepare`: a clean copy of a recipe's dataset in a new folder, with a recipe for it."""
