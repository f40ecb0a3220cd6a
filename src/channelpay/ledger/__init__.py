"""The settlement ledger's core: pure rules over books that somebody else stores. Spec chapter 8.

`books` is the storage it needs and what stands in it, `disputes` the arithmetic of closing, `checks` what needs no
books, `book` the operations, `requests` the handling of one signed request, `audit` the proof that the books balance.
`memory` keeps books in memory, for simulations and tests.
"""
