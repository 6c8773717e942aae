"""The rows of the catalog, one file for related families.

Layer names, sizes, weights' file names and their hashes are those of Keras 3.15
(`keras/src/applications/`), parameters those of its constructors, top-1 accuracies those of
https://keras.io/api/applications/ unless a file says otherwise; `tests/test_catalog.py` holds
every row against the installed Keras.
"""
