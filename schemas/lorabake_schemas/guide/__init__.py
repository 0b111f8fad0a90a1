"""The guide as data: rules with an identity."""
