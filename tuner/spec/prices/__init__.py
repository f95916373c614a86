"""Price catalogues, which ship with the product or are the user's, and the clouds' own interfaces that renew them.

What a configuration costs is worked out elsewhere (`tuner.launch.price`). Public are `catalogue.load_catalogue` and
`Catalogue`, and `clouds`, a function for each cloud.
"""
