"""Passes over the list of a program's ops, each a function that can be tested alone.

An op's fields say what is meant (rows, in the form that a weight takes); these decide how it is
done: what is computed once for all, who writes which form, which ops are made into one, who waits
for whom. None of them looks at more than what ops declare.
"""
