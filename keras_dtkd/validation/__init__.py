"""Everything that can be wrong before the first step, as data.

Checks return lists of `Issue`s. They raise nothing, change nothing, and run no model:
`preparation/` measures what they need. `find_issues` has all of them. Arguments of the
constructor and of `compile` are the exception: `arguments` raises at once.
"""
