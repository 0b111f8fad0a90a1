"""The causes of failures that are recognized, as data: signs, a sentence, and what to do."""
